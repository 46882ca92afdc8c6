"""What a lesson shows beside text: predictions, pictures made of live data."""

from engineroom.widgets.predict import predict

__all__ = ["predict"]
