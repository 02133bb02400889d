"""Pretrained models that take phrases or boxes: GroundingDINO and ViTPose.

They do not decode latent references. Their input is a phrase that the language model has written, or
a decoded box (u-LLaVA, figure 2; REF-VLM, figure 1a, "agent tools"). Weights are loaded at the first
question.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError

from deixis.errors import CheckpointError, GeometryError, PromptError
from deixis.geometry import COCO_KEYPOINTS, Box, ImageSize, Keypoints
from deixis.models.decoders.keypoints import CROWDPOSE_KEYPOINTS
from deixis.models.weight_files import check_folder

_U = TypeVar("_U", Box, Keypoints)
_NAMES = {17: COCO_KEYPOINTS, 14: CROWDPOSE_KEYPOINTS}
_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


@dataclass(frozen=True, slots=True)
class Found(Generic[_U]):
    """A unit in source pixels with its score in [0, 1]."""

    unit: _U
    score: float


@dataclass
class GroundingDetector:
    """Detect boxes for a phrase with ``GroundingDinoForObjectDetection`` from a folder.

    Args:
        folder: config.json, safetensors, the tokenizer's files and preprocessor_config.json.
        device: Torch device.
        threshold: Boxes below this score are left out.
    """

    folder: Path
    device: str = "cpu"
    threshold: float = 0.25
    _loaded: tuple[Any, Any, Any] | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """The name of the detector in records."""
        return self.folder.resolve().name

    @property
    def decoding(self) -> str:
        """The settings by which boxes are chosen, for records."""
        return f"boxes with a score of at least {self.threshold}"

    @property
    def model(self) -> Any:
        """The transformers model, loaded at the first access.

        Raises:
            CheckpointError: The model's files are missing or damaged.
        """
        return self._open()[0]

    @torch.inference_mode()
    def detect(self, image: UInt8[np.ndarray, "h w 3"], phrase: str) -> list[Found[Box]]:
        """Return the boxes (xyxy, source pixels) for a phrase, by descending score; may be empty.

        A box's score is that of its best token, as in GroundingDINO's demonstration.

        Raises:
            PromptError: The phrase is empty or holds a full stop, which separates phrases.
            CheckpointError: The model's files are missing or damaged.
        """
        words = " ".join(phrase.lower().split()).rstrip(".").strip()
        if not words or "." in words:
            raise PromptError(f"phrase {phrase!r}: expected one phrase, without full stops")
        model, tokenizer, processor = self._open()
        size = ImageSize(*image.shape[:2])
        pixels = processor(images=image, return_tensors="pt").to(self.device)
        text = tokenizer(f"{words}.", return_tensors="pt").to(self.device)
        given = model(**pixels, **text)
        scores = given.logits[0].sigmoid().amax(-1).cpu().double()
        boxes = given.pred_boxes[0].cpu().double()
        found = []
        for index in scores.argsort(descending=True, stable=True).tolist():
            score = float(scores[index])
            if score < self.threshold:
                break
            x, y, width, height = boxes[index].tolist()
            box = _clipped(x, y, width, height, size)
            if box is not None:
                found.append(Found(box, score))
        return found

    def _open(self) -> tuple[Any, Any, Any]:
        if self._loaded is None:
            # transformers takes seconds to import
            from transformers import (  # noqa: PLC0415
                AutoTokenizer,
                GroundingDinoForObjectDetection,
                GroundingDinoImageProcessorPil,
            )

            _check(self.folder, "detector")
            try:
                processor = GroundingDinoImageProcessorPil.from_pretrained(
                    self.folder, local_files_only=True
                )
                tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
                model = _model(GroundingDinoForObjectDetection, self.folder)
            except _ERRORS as error:
                raise CheckpointError(
                    f"detector {self.folder}: {str(error).splitlines()[0]}"
                ) from error
            self._loaded = model.to(self.device), tokenizer, processor
        return self._loaded


@dataclass
class PoseEstimator:
    """Estimate keypoints of bodies in boxes with ``VitPoseForPoseEstimation`` from a folder.

    Args:
        folder: config.json, safetensors and preprocessor_config.json.
        device: Torch device.
        threshold: Joints below this score are absent.
        names: Names of the model's keypoints; by default COCO's for 17 and CrowdPose's for 14.
    """

    folder: Path
    device: str = "cpu"
    threshold: float = 0.3
    names: tuple[str, ...] | None = None
    _loaded: tuple[Any, Any] | None = field(default=None, init=False, repr=False)

    @torch.inference_mode()
    def estimate(
        self, image: UInt8[np.ndarray, "h w 3"], boxes: Sequence[Box]
    ) -> list[Found[Keypoints]]:
        """Return the body in each box, in order; a joint outside the image is absent.

        A body's score is the mean of its joints' scores, each clipped to [0, 1].

        Raises:
            CheckpointError: The model's files are missing or damaged, or its keypoints have no
                names.
        """
        if not boxes:
            return []
        model, processor = self._open()
        rows = [[list(box.to_xywh()) for box in boxes]]
        inputs = processor(images=image, boxes=rows, return_tensors="pt").to(self.device)
        experts = getattr(model.config.backbone_config, "num_experts", 1)
        if experts > 1:
            # the first expert is the one for COCO
            inputs["dataset_index"] = torch.zeros(len(boxes), dtype=torch.long, device=self.device)
        given = model(**inputs)
        results = processor.post_process_pose_estimation(given, boxes=rows)[0]
        names, size = self._names(given.heatmaps.shape[1]), ImageSize(*image.shape[:2])
        return [self._body(result, names, size) for result in results]

    def _body(
        self, result: dict[str, Any], names: tuple[str, ...], size: ImageSize
    ) -> Found[Keypoints]:
        scores: Float[np.ndarray, " k"] = result["scores"].float().cpu().numpy().reshape(-1)
        places = result["keypoints"].float().cpu().numpy().astype(np.float32)
        seen = np.where(scores >= self.threshold, 2, 0).astype(np.int8)
        body = Keypoints(places, seen, names).clip(size)
        return Found(body, float(np.clip(scores, 0, 1).mean()))

    def _names(self, count: int) -> tuple[str, ...]:
        names = self.names or _NAMES.get(count, ())
        if len(names) != count:
            raise CheckpointError(
                f"pose model {self.folder}: expected names of {count} keypoints, got {len(names)}"
            )
        return names

    def _open(self) -> tuple[Any, Any]:
        if self._loaded is None:
            # transformers takes seconds to import
            from transformers import (  # noqa: PLC0415
                VitPoseForPoseEstimation,
                VitPoseImageProcessorPil,
            )

            _check(self.folder, "pose model")
            try:
                processor = VitPoseImageProcessorPil.from_pretrained(
                    self.folder, local_files_only=True
                )
                model = _model(VitPoseForPoseEstimation, self.folder)
            except _ERRORS as error:
                raise CheckpointError(
                    f"pose model {self.folder}: {str(error).splitlines()[0]}"
                ) from error
            self._loaded = model.to(self.device), processor
        return self._loaded


def open_detector(folder: Path, device: str = "cpu") -> GroundingDetector:
    """Return a detector after checking its files; weights are loaded at the first question.

    Raises:
        CheckpointError: Files are missing or damaged.
    """
    _check(folder, "detector")
    return GroundingDetector(folder, device)


def open_pose(folder: Path, device: str = "cpu") -> PoseEstimator:
    """Return a pose model after checking its files; weights are loaded at the first question.

    Raises:
        CheckpointError: Files are missing or damaged.
    """
    _check(folder, "pose model")
    return PoseEstimator(folder, device)


def _check(folder: Path, what: str) -> None:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{what} {folder}: expected config.json and safetensors there")
    check_folder(folder, f"{what} {folder}")


def _model(loader: Any, folder: Path) -> Any:
    # float32 whatever the saved dtype, since pixels and boxes are float32
    model, report = loader.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    wrong = {key: sorted(report[key]) for key in ("missing_keys", "unexpected_keys") if report[key]}
    if wrong:
        raise CheckpointError(f"{folder}: weights do not fit: {wrong}")
    return model.eval()


def _clipped(x: float, y: float, width: float, height: float, size: ImageSize) -> Box | None:
    """Convert a box in [0, 1] of the image to clipped pixels; None if it lies outside the image."""
    corners = (
        (x - width / 2) * size.width,
        (y - height / 2) * size.height,
        (x + width / 2) * size.width,
        (y + height / 2) * size.height,
    )
    try:
        return Box(*corners).clip(size)
    except GeometryError:
        return None
