"""What a lesson shows beside text: predictions, pictures made of live data."""

from engineroom.widgets.anatomy import anatomy
from engineroom.widgets.packages import who_asks
from engineroom.widgets.predict import predict
from engineroom.widgets.xray import Xray

__all__ = ["Xray", "anatomy", "predict", "who_asks"]
