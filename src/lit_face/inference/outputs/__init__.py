"""What can be written for a face: one file a kind; `OUTPUTS` and `PHOTO_OUTPUTS` name them."""

from lit_face.inference.outputs.export import Export, ExportSettings
from lit_face.inference.outputs.registry import OUTPUTS, PHOTO_OUTPUTS, check_outputs, write_photo

__all__ = ["OUTPUTS", "PHOTO_OUTPUTS", "Export", "ExportSettings", "check_outputs", "write_photo"]
