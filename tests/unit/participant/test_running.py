"""What goes on between two requests lets go of nothing but its own."""

import os
import select

from netdiag.participant.running import Running


def test_ending_one_whose_time_is_up_writes_to_nobody_else_s_descriptor():
    source, target = os.pipe()
    running = Running([source], lambda _descriptor: None, lambda: None, seconds=0.0)
    running._thread.join(5.0)
    # The kernel gives the lowest numbers that are free: those that it has just closed.
    others = [os.pipe() for _ in range(4)]
    try:
        running.end()
        assert select.select([each[0] for each in others], [], [], 0)[0] == []
    finally:
        for descriptor in (source, target, *(each for pair in others for each in pair)):
            os.close(descriptor)
