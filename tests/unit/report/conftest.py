import os

import pytest


@pytest.fixture
def update_golden() -> bool:
    """NETDIAG_UPDATE_GOLDEN=1 writes the golden files anew; read the difference before it is committed."""
    return os.environ.get("NETDIAG_UPDATE_GOLDEN") == "1"
