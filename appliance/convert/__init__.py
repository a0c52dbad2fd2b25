"""Checkpoint (.pt of YOLOv8-seg, FastSAM or YOLO11-seg) -> raw-head ONNX -> int8 TFLite with its sidecar.

Torch and TensorFlow run as scripts in environments of their own; this package imports neither.
"""

from appliance.convert.conversion import convert

__all__ = ["convert"]
