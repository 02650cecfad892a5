"""How parties are called."""

from __future__ import annotations

import re

NODE_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Of a node in a roster, in a certificate and in file names: a label of a host name (RFC 1123), lower case."""
