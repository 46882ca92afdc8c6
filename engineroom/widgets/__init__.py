"""What a lesson shows beside text: predictions, pictures made of live data."""

from engineroom.widgets.anatomy import anatomy
from engineroom.widgets.board import board
from engineroom.widgets.chart import chart
from engineroom.widgets.grid import Grid
from engineroom.widgets.heartbeat import Heartbeat
from engineroom.widgets.packages import who_asks
from engineroom.widgets.predict import predict
from engineroom.widgets.sizing import SizingCurve
from engineroom.widgets.timeline import Timeline
from engineroom.widgets.xray import Xray

__all__ = [
    "Grid",
    "Heartbeat",
    "SizingCurve",
    "Timeline",
    "Xray",
    "anatomy",
    "board",
    "chart",
    "predict",
    "who_asks",
]
