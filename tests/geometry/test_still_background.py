import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.geometry.flow import cell_centres
from diffusers_dawn.geometry.still_background import keep_background

SIZE, FRAMES = 32, 3


def person_in_the_middle() -> torch.Tensor:
    person = torch.zeros(1, 1, SIZE, SIZE)
    person[..., 12:, 12:20] = 1
    return person


def everything_moves_by(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    flow = (cell_centres(SIZE, SIZE) + torch.tensor([shift, 0.0])).expand(1, FRAMES, -1, -1, -1)
    return flow, torch.full((1, FRAMES, 1, SIZE, SIZE), 0.5)


@given(st.floats(-0.2, 0.2))
def test_only_the_person_moves_and_what_is_around(shift):
    flow, occlusion = everything_moves_by(shift)
    kept, visible = keep_background(flow, occlusion, person_in_the_middle())
    still = cell_centres(SIZE, SIZE)
    # columns farther from the person than any shift of a fifth, and what lies near, lead
    for columns in (slice(0, 6), slice(26, SIZE)):
        torch.testing.assert_close(kept[0, :, :, columns], still[:, columns].expand(FRAMES, -1, -1, -1))
        assert (visible[..., columns] == 1).all()
    torch.testing.assert_close(kept[0, :, 14:, 13:19], flow[0, :, 14:, 13:19])
    assert (visible[..., 14:, 13:19] == 0.5).all()


def test_what_the_person_comes_over_and_uncovers_is_left_to_the_decoder():
    # frames show at each place what the picture has 4 columns to the right: the person goes 4 to the left
    flow, occlusion = everything_moves_by(4 * 2 / SIZE)
    kept, visible = keep_background(flow, occlusion, person_in_the_middle())
    come, left = kept[0, :, 16:, 8:12], kept[0, :, 16:, 16:20]
    torch.testing.assert_close(come, flow[0, :, 16:, 8:12])
    torch.testing.assert_close(left, flow[0, :, 16:, 16:20])
    assert (visible[..., 16:, 8:20] == 0.5).all()


def test_where_all_is_the_person_nothing_changes():
    flow, occlusion = everything_moves_by(0.1)
    kept, visible = keep_background(flow, occlusion, torch.ones(1, 1, SIZE, SIZE))
    torch.testing.assert_close(kept, flow)
    torch.testing.assert_close(visible, occlusion)
