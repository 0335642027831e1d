"""Draw a synthetic head in any state, with the exact ground truth of the picture."""

from dataclasses import dataclass

import numpy as np

from training.synthetic.backdrop import paint_backdrop
from training.synthetic.ground_truth import FaceMeasures
from training.synthetic.hair_texture import paint_strands
from training.synthetic.head_mesh import HeadMesh, PosedMesh
from training.synthetic.head_state import HeadState
from training.synthetic.identity import COLLARS, Identity
from training.synthetic.optical_flow import backward_flow
from training.synthetic.rasteriser import Raster, rasterise, smooth_normals
from training.synthetic.shading import Palette, Surface, resolve, shade
from training.synthetic.skin_texture import paint_skin

# share of the picture's height that a neutral face takes from forehead to chin, and where its middle lies from the top
FACE_TO_SIDE = 0.6
FACE_MIDDLE_HEIGHT = 0.56
SIZES_PX = (32, 1024)
SUPERSAMPLINGS = (1, 4)


@dataclass(frozen=True)
class RenderedFrame:
    """A picture and the geometry behind it.

    Attributes:
        image: uint8 array (S, S, 3), RGB.
        state: What the head does.
        mesh: Where the figure's vertices are.
        screen_px: Float32 projections of its vertices (N, 2) [px], x to the right, y down.
        raster: What every sample of the picture shows.
        px_per_cm: Scale of the camera.
        origin_px: Where the camera's axis, x = y = 0, is seen (2,).
    """

    image: np.ndarray
    state: HeadState
    mesh: PosedMesh
    screen_px: np.ndarray
    raster: Raster
    px_per_cm: float
    origin_px: np.ndarray


class HeadRenderer:
    """Render one identity.

    Args:
        identity: Who.
        size_px: Side of the picture, 32 to 1024.
        supersampling: Samples per pixel along one axis, 1 to 4.

    Raises:
        ValueError: `size_px` or `supersampling` is out of range.
    """

    def __init__(self, identity: Identity, size_px: int = 128, supersampling: int = 2):
        _check_range("size_px", size_px, SIZES_PX)
        _check_range("supersampling", supersampling, SUPERSAMPLINGS)
        self.identity = identity
        self.size_px = size_px
        self.supersampling = supersampling
        self._mesh = HeadMesh(identity)
        self._measures = FaceMeasures(identity, self._mesh)
        face_y_cm = self._measures.forehead_y_cm, self._measures.chin_y_cm
        self._px_per_cm = FACE_TO_SIDE * size_px / (face_y_cm[0] - face_y_cm[1])
        middle_px = FACE_MIDDLE_HEIGHT * size_px + self._px_per_cm * sum(face_y_cm) / 2
        self._origin_px = np.array([size_px / 2, middle_px], np.float32)
        self._backdrop = paint_backdrop(identity.background, identity.light, size_px * supersampling)
        self._palette = _palette(identity, self._mesh)

    def render(self, state: HeadState) -> RenderedFrame:
        """Draw the head.

        Args:
            state: What it does.

        Returns:
            The picture and its geometry; the same state always gives the same bytes.
        """
        mesh = self._mesh.pose(state)
        px_per_cm = self._px_per_cm * state.scale
        screen_px = mesh.camera_cm[:, :2] * np.array([px_per_cm, -px_per_cm], np.float32) + self._origin_px
        raster = rasterise(
            screen_px * np.float32(self.supersampling),
            np.ascontiguousarray(mesh.camera_cm[:, 2]),
            self._mesh.triangles,
            self._mesh.is_two_sided,
            self._mesh.coverage,
            self.size_px * self.supersampling,
        )
        samples = self._backdrop.copy()
        shade(samples, raster, self._surface(mesh), self._palette)
        image = resolve(samples, self.supersampling)
        return RenderedFrame(image, state, mesh, screen_px, raster, px_per_cm, self._origin_px)

    def labels(self, frame: RenderedFrame, reference: RenderedFrame | None = None) -> dict[str, np.ndarray]:
        """Tell the exact state of the face in a picture.

        Args:
            frame: The picture.
            reference: The picture in whose crop scale, x and y are measured, usually the clip's first; None takes
                `frame` itself.

        Returns:
            Float32 arrays. pose (6,): as `records.POSE_NAMES`. blink (2,): lid distance over eye width, the left eye
            first. face_box_px (4,): x_min, x_max, y_min, y_max from forehead to chin. mouth_px (20, 2): points 48 to
            67 of the 68-point convention. mouth_opening (): gap between the lips over the face's height. eyes_px
            (2, 4): boxes of the left and the right eye, as `face_box_px`.
        """
        return self._measures.labels(frame, frame if reference is None else reference)

    def optical_flow(
        self, first: RenderedFrame, second: RenderedFrame, stride: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tell where every pixel of a picture was in an earlier one.

        Args:
            first: The picture to look in.
            second: The picture whose pixels are followed.
            stride: Distance of the pixels that are followed; divides the picture's side.

        Returns:
            Flow, float32 (S / stride, S / stride, 2): pixel p of `second` shows what `first` shows at p + flow [px].
            Visible, bool (S / stride, S / stride): whether `first` shows it at all.

        Raises:
            ValueError: `stride` does not divide the side of the picture.
        """
        if stride < 1 or self.size_px % stride:
            raise ValueError(f"`stride` is {stride}, must divide the picture's side of {self.size_px} px")
        flow, visible = backward_flow(
            first.raster,
            first.screen_px * np.float32(self.supersampling),
            np.ascontiguousarray(first.mesh.camera_cm[:, 2]),
            second.raster,
            self._mesh.triangles,
            self._mesh.material,
            stride * self.supersampling,
        )
        return flow / np.float32(self.supersampling), visible

    def _surface(self, mesh: PosedMesh) -> Surface:
        eyes = (self._mesh.surface.right_eye, self._mesh.surface.left_eye)
        corners_cm = [mesh.local_cm[[eye.left_corner, eye.right_corner]] for eye in eyes]
        lids_cm = [
            (*corners[:, 0], corners[:, 1].mean(), mesh.local_cm[eye.upper, 1].max())
            for eye, corners in zip(eyes, corners_cm, strict=True)
        ]
        return Surface(
            triangles=self._mesh.triangles,
            material=self._mesh.material,
            normals=smooth_normals(mesh.camera_cm, self._mesh.triangles),
            rest_cm=self._mesh.rest_cm,
            local_cm=mesh.local_cm,
            uv=self._mesh.uv,
            ambient=self._mesh.ambient,
            lids_cm=np.array(lids_cm, np.float32),
        )


def _palette(identity: Identity, mesh: HeadMesh) -> Palette:
    return Palette(
        skin_texture=paint_skin(identity, mesh.surface, mesh.hair),
        hair_tile=paint_strands(identity.hair.seed, mesh.hair.style.curls),
        hair_contrast=0.8,
        skin_rgb=identity.skin.rgb,
        hair_rgb=identity.hair.rgb,
        iris_rgb=identity.eyes.iris_rgb,
        frame_rgb=identity.glasses.rgb if identity.glasses else (0.0, 0.0, 0.0),
        clothes=identity.clothes,
        shows_tie=not identity.is_feminine and COLLARS[identity.clothes.collar] == "jacket",
        light_direction=identity.light.direction,
        light_rgb=identity.light.rgb,
        ambient=identity.light.ambient,
        eyeball_radius_cm=float(mesh.surface.eyeball_radius_cm),
    )


def _check_range(name: str, value: int, allowed: tuple[int, int]) -> None:
    if not isinstance(value, int) or not allowed[0] <= value <= allowed[1]:
        raise ValueError(f"`{name}` is {value!r}, must be a whole number from {allowed[0]} to {allowed[1]}")
