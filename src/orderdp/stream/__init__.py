"""OrderDP on sources without random access."""

from orderdp.stream.pruner import StreamPruner as StreamPruner
from orderdp.stream.window import StreamReport as StreamReport
