"""From facts to the places that a flow passes, and from what was seen there to where it was lost; pure."""
