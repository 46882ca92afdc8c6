"""What the server saw: asked of Postgres by a role that the learner's code cannot be."""

from engineroom.witness.relay import Relay
from engineroom.witness.server import Backend, Witness
from engineroom.witness.stage import knocking
from engineroom.witness.warden import Warden

__all__ = ["Backend", "Relay", "Warden", "Witness", "knocking"]
