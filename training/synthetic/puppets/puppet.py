"""A still portrait that moves: its head, lids, jaw, lips and gaze follow a morphable head fitted to it."""

from dataclasses import dataclass

import cv2
import numpy as np

from diffusers_dawn.face.pose import RIGID_POINTS, TEMPLATE_CM, TEMPLATE_WEIGHTS, fit_similarity
from training.synthetic.head_state import rotation_from_angles
from training.synthetic.puppets.head_fit import HeadFit, HeadFitter, push_to_landmarks
from training.synthetic.puppets.inner_mouth import InnerMouth, draw_look, place_teeth
from training.synthetic.puppets.landmark_measures import lid_openings
from training.synthetic.puppets.morphable_head import EYEBALLS, FACE, LIPS
from training.synthetic.puppets.motion import DenseMotion, motion_between
from training.synthetic.puppets.surface import (
    RigidPose,
    Surface,
    chin_height_cm,
    make_surface,
    neck_share,
    pose_of_fit,
    sample,
)

# the top of the neck [cm]
NECK_CM = np.array([0.0, -6.0, -3.0], np.float32)
# a worse fit than this, at a face of 140 px, is no puppet [px]
MAX_ERROR_PX = 3.0
# contours of MediaPipe's eyes, right and left
EYE_CONTOURS = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382),
)
# edges of the closed lids among the 68 landmarks: from corner to corner along the lower lid
LASH_LINES = ((36, 41, 40, 39), (42, 47, 46, 45))
# share of a lid's way down from which its own skin replaces stretched lashes, and from which it does so wholly
LID_CLOSING = (0.3, 0.8)
# closed lids show a dark line of lashes a little below the lower lid, or they read as half open: its darkness, and its
# width and drop over the eye's width
LASH_DARKNESS, LASH_WIDTH, LASH_DROP = 0.85, 0.07, 0.14
# width of the skin around the eye that lids take along, of the eye's width
LID_REACH = 0.22
# a lid's colour over that of the skin around the eyes, at least
DARKEST_LID = 0.8
# the person is widened by so much of the picture, so that hair takes its own edge along
PERSON_MARGIN = 0.012
# light on the mouth's inside for black and white skin
MOUTH_LIGHT = (0.4, 1.15)


class PortraitRefused(ValueError):
    """A portrait cannot become a good puppet; the text says why."""


@dataclass(frozen=True)
class PuppetState:
    """What a puppet does in one frame, relative to its portrait where nothing else is said.

    Attributes:
        expression: Expression weights as they are, not relative, float32 (E,).
        yaw_deg: Positive turns the nose to the image's left.
        pitch_deg: Positive looks down.
        roll_deg: Positive is counter-clockwise.
        scale: Size of the head; 1 is the portrait's.
        x_cm: Shift of the head to the image's right.
        y_cm: Shift of the head upwards.
        pivot: What the head turns about: 0 the top of the neck, 1 the point whose place in the picture the six pose
            numbers tell, so that angles alone change them.
        gaze_x_rad: Turn of the eyes to the image's right.
        gaze_y_rad: Turn of the eyes upwards.
    """

    expression: np.ndarray
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    scale: float = 1.0
    x_cm: float = 0.0
    y_cm: float = 0.0
    pivot: float = 0.0
    gaze_x_rad: float = 0.0
    gaze_y_rad: float = 0.0


class Puppet:
    """A portrait with a head laid over it.

    Args:
        fitter: Fits the head.
        image: The portrait, uint8 (S, S, 3), RGB.
        landmarks_px: MediaPipe's points of its face (478, 3) [px].
        person: How much of every pixel belongs to the person, float32 (S, S) in [0, 1].
        seed: Draws the colours of the inner mouth.

    Attributes:
        fit: How the head lies over the face.
        rest: The portrait's own surface.

    Raises:
        PortraitRefused: The head does not fit well enough.
    """

    def __init__(
        self, fitter: HeadFitter, image: np.ndarray, landmarks_px: np.ndarray, person: np.ndarray, seed: int = 0
    ):
        self.head, self.image, self.portrait_landmarks_px = fitter.head, image, landmarks_px
        self.fit = fitter.fit(landmarks_px)
        face_width_px = np.ptp(landmarks_px[:, 0])
        error_px = self.fit.error_px * 140 / face_width_px
        if not error_px <= MAX_ERROR_PX:
            raise PortraitRefused(f"the head's fit is off by {error_px:.1f} px of a face of 140 px")
        self._pose_origin_cm = _pose_origin_cm(self.fit, landmarks_px)
        look = draw_look(np.random.default_rng(seed))
        self._base_cm = self.head.shape(self.fit.identity)
        self._base_cm += place_teeth(self.head, look)
        self._eyeballs = self.head.vertices_of(EYEBALLS)
        rest_cm = self._vertices_cm(PuppetState(self.fit.expression))
        self._chin_y_cm = chin_height_cm(rest_cm)
        self._neck_share = neck_share(rest_cm[:, 1], self._chin_y_cm).astype(np.float32)[:, None]
        projected = self.fit.project(rest_cm)
        self._push_px = push_to_landmarks(projected, self.fit)
        projected[:, :2] += self._push_px
        self.person = _widened(person)
        self.rest = make_surface(self.head, projected, self.person, pose_of_fit(self.fit), self._chin_y_cm)
        closed = self.surface(PuppetState(self._with_closed_lids(self.fit.expression)))
        self._rest_openings, self._closed_openings = (
            lid_openings(surface.landmarks_px) for surface in (self.rest, closed)
        )
        self.background = _without_person(image, self.person)
        self._lids, self._lid_share = _lid_skin(image, landmarks_px)
        self._eye_width_px = float(np.linalg.norm(landmarks_px[33, :2] - landmarks_px[133, :2]))
        self._inner_mouth = InnerMouth(self.head, look)
        self._mouth_light = _mouth_light(image, self.rest.landmarks_px)

    def surface(self, state: PuppetState) -> Surface:
        """Move the head.

        Args:
            state: What it does.

        Returns:
            The person in the picture; of the person beside the head only the portrait's own outline is known.
        """
        vertices_cm = self._vertices_cm(state)
        turn = rotation_from_angles(state.yaw_deg, state.pitch_deg, state.roll_deg).astype(np.float32)
        shift_cm = np.array([state.x_cm, state.y_cm, 0.0], np.float32)
        pivot_cm = NECK_CM + np.float32(state.pivot) * (self._pose_origin_cm - NECK_CM)
        moved_cm = (vertices_cm - pivot_cm) @ (state.scale * turn.T) + pivot_cm + shift_cm
        vertices_px = self.fit.project(vertices_cm + self._neck_share * (moved_cm - vertices_cm))
        vertices_px[:, :2] += self._push_px
        fit = self.fit
        pose = RigidPose(
            scale_px_per_cm=fit.scale_px_per_cm * state.scale,
            rotation=fit.rotation @ turn,
            translation_px=fit.translation_px
            + fit.scale_px_per_cm * fit.rotation @ (pivot_cm - state.scale * turn @ pivot_cm + shift_cm),
        )
        return make_surface(self.head, vertices_px, self.person, pose, self._chin_y_cm)

    def frame(self, surface: Surface) -> tuple[np.ndarray, DenseMotion]:
        """Draw the puppet.

        Args:
            surface: Result of `surface`.

        Returns:
            The picture, uint8 (S, S, 3), and its motion from the portrait.
        """
        motion = motion_between(self.head, self.rest, surface)
        positions = motion.positions_px
        moved = sample(self.image, positions, cv2.INTER_CUBIC).astype(np.float32) / 255
        person = cv2.GaussianBlur(motion.person.astype(np.float32), (0, 0), 0.7)[..., None]
        picture = moved * person + self.background * (1 - person)
        picture = self._paint_inner_mouth(picture, surface, motion.is_uncovered_inside)
        picture, is_lid = self._paint_lids(picture, surface, positions)
        motion = DenseMotion(positions, motion.is_visible & ~is_lid, motion.person, motion.is_uncovered_inside)
        return (picture * 255 + 0.5).clip(0, 255).astype(np.uint8), motion

    def _vertices_cm(self, state: PuppetState) -> np.ndarray:
        moved = self._base_cm + self.head.expression_shift(state.expression)
        if state.gaze_x_rad or state.gaze_y_rad:
            turn = rotation_from_angles(*np.degrees([-state.gaze_x_rad, -state.gaze_y_rad]), 0.0)
            for is_side in (moved[self._eyeballs, 0] < 0, moved[self._eyeballs, 0] >= 0):
                ball = self._eyeballs[is_side]
                centre = (moved[ball].min(axis=0) + moved[ball].max(axis=0)) / 2
                moved[ball] = (moved[ball] - centre) @ turn.T + centre
        return moved.astype(np.float32)

    def _with_closed_lids(self, expression: np.ndarray) -> np.ndarray:
        closed = expression.copy()
        closed[self.head.expression_indices("eyeBlink")] = 1
        return closed

    def _paint_inner_mouth(self, picture: np.ndarray, surface: Surface, needed: np.ndarray) -> np.ndarray:
        if not needed.any():
            return picture
        colours, covered, place = self._inner_mouth.draw(surface, needed, self._mouth_light)
        # what the portrait shows already stays
        wanted = cv2.GaussianBlur(needed[place].astype(np.float32), (0, 0), 0.6)
        share = np.where(needed[place], np.maximum(covered, 0.5), covered * np.minimum(2 * wanted, 1))[..., None]
        picture[place] += share * (colours - picture[place])
        return picture

    def _paint_lids(
        self, picture: np.ndarray, surface: Surface, positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Close lids with their own skin and a line of lashes; returns picture and where lids were painted."""
        # eyes that are narrow in the portrait go a short way only
        way = np.maximum(self._rest_openings - self._closed_openings, 1e-3)
        begins, ends = LID_CLOSING
        shares = ((self._rest_openings - lid_openings(surface.landmarks_px)) / way - begins) / (ends - begins)
        shares = shares.clip(0, 1)
        if not shares.any():
            return picture, np.zeros(picture.shape[:2], bool)
        skin = sample(self._lids, positions)
        is_left = sample(self._left_half(), positions) > 0.5
        closed = np.where(is_left, shares[1], shares[0])
        # what still shows of the eye between the lids goes last
        closed = np.where(surface.part == FACE, closed, closed**4)
        share = sample(self._lid_share, positions) * closed
        share = cv2.GaussianBlur(share.astype(np.float32), (0, 0), 0.5)
        picture = picture + share[..., None] * (skin - picture)
        lashes = np.zeros(picture.shape[:2], np.float32)
        for line, weight in zip(LASH_LINES, shares, strict=True):
            drawn = np.zeros(picture.shape[:2], np.uint8)
            hanging_px = surface.landmarks_px[list(line)] + (0, LASH_DROP * self._eye_width_px)
            points = np.round((hanging_px - 0.5) * 16).astype(np.int32)
            width = max(1, round(self._eye_width_px * LASH_WIDTH))
            cv2.polylines(drawn, [points], False, 255, width, cv2.LINE_AA, 4)
            lashes += weight * drawn / 255
        lashes = cv2.GaussianBlur(lashes, (0, 0), 0.5)[..., None]
        return picture * (1 - LASH_DARKNESS * lashes), (share > 0.5) | (lashes[..., 0] > 0.5)

    def _left_half(self) -> np.ndarray:
        # the side of the subject's left eye, to the image's right of the nose
        x = np.arange(self.image.shape[1], dtype=np.float32)
        nose_px = self.rest.landmarks_px[27, 0]
        return np.broadcast_to((x > nose_px).astype(np.float32), self.image.shape[:2]).copy()


def _pose_origin_cm(fit: HeadFit, landmarks_px: np.ndarray) -> np.ndarray:
    """Where the head has the origin of the template that pose numbers are read with, float32 (3,) [cm]."""
    points = landmarks_px[RIGID_POINTS] * (1, -1, -1)
    _, _, translation_px = fit_similarity(TEMPLATE_CM, points, TEMPLATE_WEIGHTS)
    return (fit.rotation.T @ (translation_px - fit.translation_px) / fit.scale_px_per_cm).astype(np.float32)


def _widened(person: np.ndarray) -> np.ndarray:
    reach = 2 * max(round(PERSON_MARGIN * len(person)), 1) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return cv2.GaussianBlur(cv2.dilate(person.astype(np.float32), kernel), (0, 0), 1.0)


def _without_person(image: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Fill the person's place from the background around it; float32 (S, S, 3) in [0, 1]."""
    picture = image.astype(np.float32) / 255
    known = (cv2.dilate(person, np.ones((5, 5), np.uint8)) < 0.1).astype(np.float32)[..., None]
    levels = [np.dstack([picture * known, known])]
    while min(levels[-1].shape[:2]) > 2:
        levels.append(
            cv2.resize(levels[-1], tuple(side // 2 for side in levels[-1].shape[1::-1]), interpolation=cv2.INTER_AREA)
        )
    mean = levels[-1].sum(axis=(0, 1))
    filled = np.broadcast_to(mean[:3] / max(mean[3], 1e-6), (*levels[-1].shape[:2], 3))
    for level in levels[::-1]:
        filled = cv2.resize(np.ascontiguousarray(filled), level.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        share = level[..., 3:]
        filled = filled * (1 - np.minimum(share, 1)) + level[..., :3]
    return filled.astype(np.float32)


def _lid_skin(image: np.ndarray, landmarks_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The face as if it had no eyes, float32 (S, S, 3) in [0, 1], and where its eyes are, float32 (S, S)."""
    eyes = np.zeros(image.shape[:2], np.uint8)
    for contour in EYE_CONTOURS:
        cv2.fillPoly(eyes, [np.round(landmarks_px[list(contour), :2] - 0.5).astype(np.int32)], 255)
    width_px = np.linalg.norm(landmarks_px[33, :2] - landmarks_px[133, :2])
    reach = max(3, round(width_px * LID_REACH) | 1)
    eyes = cv2.dilate(eyes, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    skin = cv2.inpaint(np.ascontiguousarray(image), eyes, 3, cv2.INPAINT_TELEA)
    skin = cv2.GaussianBlur(skin, (0, 0), max(0.6, width_px * 0.03)).astype(np.float32) / 255
    around = cv2.dilate(eyes, np.ones((reach, reach), np.uint8)) > eyes
    # lashes and paint at the edge of an eye make no dark lids
    skin = np.maximum(skin, DARKEST_LID * np.median(image[around], axis=0) / 255).astype(np.float32)
    return skin, cv2.GaussianBlur(eyes.astype(np.float32) / 255, (0, 0), 1.0)


def _mouth_light(image: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """Colour of the light at the mouth (3,), from the skin between nose and chin."""
    mask = np.zeros(image.shape[:2], np.uint8)
    around = np.concatenate([landmarks_px[3:14], landmarks_px[[35, 33, 31]]])
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(around).astype(np.int32)), 255)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(landmarks_px[LIPS]).astype(np.int32)), 0)
    skin = image[mask > 0]
    if not len(skin):
        return np.full(3, np.mean(MOUTH_LIGHT), np.float32)
    colour = np.median(skin, axis=0).astype(np.float32) / 255
    luminance = float(colour.mean())
    tint = (colour / max(luminance, 1e-3)) ** 0.3
    dark, bright = MOUTH_LIGHT
    return (tint * np.clip(dark + (bright - dark) * luminance * 1.3, dark, bright)).astype(np.float32)
