import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusers_dawn.motion.gestures import GESTURES, Gesture
from diffusers_dawn.motion.script import (
    Edit,
    GiveTranscript,
    Join,
    Perform,
    SampleMotion,
    SetKeyframe,
    TakeFrom,
    When,
    parse_script,
)

NEXT = When(place="next")


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        (
            "nod twice at the start, then look left",
            [Perform(When(place="start"), Gesture("nod", times=2)), Perform(NEXT, Gesture("look left"))],
        ),
        ("At 2.0 s yaw 15", [SetKeyframe(When(at_s=2.0), {"yaw_deg": 15.0})]),
        (
            "at 2s yaw to -15 pitch 3, roll 1; at 3 seconds back",
            [
                SetKeyframe(When(at_s=2.0), {"yaw_deg": -15.0, "pitch_deg": 3.0}),
                SetKeyframe(When(at_s=2.0), {"roll_deg": 1.0}),
                SetKeyframe(When(at_s=3.0), None),
            ],
        ),
        ("eyes 0 at 1 s", [SetKeyframe(When(at_s=1.0), {"eyes": 0.0})]),
        ("shake your head three times on word 3", [Perform(When(word=3), Gesture("shake", times=3))]),
        ('slightly nod on "Really, now"', [Perform(When(word="Really, now"), Gesture("nod", degrees=4.5))]),
        ('nod on the word "yes"', [Perform(When(word="yes"), Gesture("nod"))]),
        (
            "tilt the head to the right by 12 degrees for 2 s in the middle",
            [Perform(When(place="middle"), Gesture("tilt right", degrees=12.0, duration_s=2.0))],
        ),
        ("Look up. \n blink 2 times at the end!", None),
        (
            "head from film.mp4 and blinks from idle.npz",
            [TakeFrom("head", "film.mp4"), TakeFrom("blinks", "idle.npz")],
        ),
        ('motion from "my, film then.mov"', [TakeFrom("motion", "my, film then.mov")]),
        ("head motion 0.5", [Edit("scaled", {"head": 0.5})]),
        ("keep the head still", [Edit("scaled", {"head": 0.0})]),
        ("blink strength 1.5", [Edit("scaled", {"blinks": 1.5})]),
        ("blink rate 0.3", [Edit("with_blink_rate", {"per_s": 0.3})]),
        ("18 blinks per minute", [Edit("with_blink_rate", {"per_s": 0.3})]),
        ("blink 0.5 times a second", [Edit("with_blink_rate", {"per_s": 0.5})]),
        ("do not blink", [Edit("with_blink_rate", {"per_s": 0.0})]),
        ("smooth 0.4 s", [Edit("smoothed", {"duration_s": 0.4})]),
        (
            "limit yaw 20; limit pitch -5 to 10",
            [Edit("limited", {"yaw_deg": (-20.0, 20.0)}), Edit("limited", {"pitch_deg": (-5.0, 10.0)})],
        ),
        ("offset yaw 5 pitch -3", [Edit("turned", {"yaw_deg": 5.0, "pitch_deg": -3.0})]),
        ("begin after idle.npz; end at rest", [Join("start", "idle.npz"), Join("end", None)]),
        ("temperature 0.7, take 3", [SampleMotion(temperature=0.7), SampleMotion(take=3)]),
        ('transcript "Well, then: hello and bye"', [GiveTranscript("Well, then: hello and bye")]),
        ("# a comment, nod\nblink # another", [Perform(NEXT, Gesture("blink"))]),
        ('nod # 5" higher\nblink # "so', [Perform(NEXT, Gesture("nod")), Perform(NEXT, Gesture("blink"))]),
        (".6 blinks a minute.", [Edit("with_blink_rate", {"per_s": 0.01})]),
        ("..nod at .5 s for .7 s", [Perform(When(at_s=0.5), Gesture("nod", duration_s=0.7))]),
        ("offset yaw -.5", [Edit("turned", {"yaw_deg": -0.5})]),
    ],
)
def test_a_text_says_what_it_says(text, statements):
    script = parse_script(text)
    if statements is None:
        statements = [Perform(NEXT, Gesture("look up")), Perform(When(place="end"), Gesture("blink", times=2))]
    assert list(script.statements) == statements and script.text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`motion` says nothing"),
        (" ,; # nod", "`motion` says nothing"),
        ("jump", "`motion`: 'jump' is not understood: 'jump'. It may be one of nod, shake"),
        ("at 2 s, nod", "`motion`: 'at 2 s' is not understood. It may be one of"),
        ('begin after ""', "'begin after \"\"' is not understood"),
        ("nodd twice", "'nodd twice' is not understood: 'nodd'; is 'nod' meant"),
        ("look lfet", "is 'look left' meant"),
        ("yaw 15", "'yaw 15' says no time; it may say 'at 2 s yaw 15', or 'offset yaw 15'"),
        ("back", "says no time; it may say 'at 3 s back'"),
        ("nod at 2 s at the end", "has two times, must have one"),
        ("nod on word 0", "counts words from 1"),
        ("at 2 s yaw 5 yaw 6", "has one of yaw, pitch, roll and eyes twice"),
        ("at 2 s yaw 500", "cannot be: `yaw_deg` is 500.0, must be from -90 to 90"),
        ("at 2 s eyes 9", "cannot be: `eyes` is 9.0, must be from 0 to 2"),
        ("nod 99 times", "cannot be: `times` is 99, must be a whole number from 1 to 20"),
        ("nod by 99 degrees", "cannot be: `degrees` of nod is 99.0"),
        ("blink strongly", "has 'strongly', which goes with no degrees and no blink"),
        ("nod twice 3 times", "has two counts, must have one"),
        ("blink rate 7", "has 7, must have a number from 0 to 1.25"),
        ("head motion -1", "has -1, must have a number from 0 to 2"),
        ("temperature 9", "has 9, must have a number from 0 to 3"),
        ("take 1.5", "has 1.5, must have a whole number"),
        ("limit yaw 5 to 4", "has the larger number first"),
        ("offset eyes 1", "has eyes, which have no offset"),
        ("offset up", "'offset up' is not understood; it may say 'offset yaw 5 pitch -3'"),
        ('nod on "yes', "has a double quote that is not closed: '\"yes'"),
        ("nod " * 6000, "`motion` has 24000 letters, must have 20000 at most"),
    ],
)
def test_what_is_not_understood_is_one_sentence_that_quotes_it(text, message):
    with pytest.raises(ValueError) as refusal:
        parse_script(text)
    assert message in str(refusal.value)


def test_a_host_sees_the_files_that_a_text_names():
    script = parse_script('head from a.npz; begin after b.npz; transcript c.txt; end at rest; nod on "d"')
    assert script.files == ("a.npz", "b.npz", "c.txt")
    assert parse_script('nod on "yes"; transcript "Yes, I do."').files == ()


words = st.sampled_from([
    *GESTURES, "at 2 s", "yaw", "15", "on word 3", '"x"', '"', "twice", ",", "then", "from", "head", "blink rate",
    "\n", "at the end", "-3", "limit", "offset", "by 5 degrees", "eyes", "transcript", "begin after", "\x00", "é", "#",
])  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(words, max_size=8).map(" ".join)))
@settings(max_examples=100)
def test_any_text_is_understood_or_refused_by_name(text):
    try:
        assert parse_script(text, "--motion").statements
    except ValueError as error:
        assert str(error).startswith("`--motion`")


@given(st.lists(st.tuples(st.sampled_from(sorted(GESTURES)), st.integers(1, 20), st.floats(0, 99)), min_size=1))
def test_gestures_are_read_in_order_with_their_counts_and_times(gestures):
    text = "; ".join(f"{kind} {times} times at {at_s:.2f} s" for kind, times, at_s in gestures)
    for statement, (kind, times, at_s) in zip(parse_script(text).statements, gestures, strict=True):
        assert statement.gesture == Gesture(kind, times=times) and statement.when.at_s == round(at_s, 2)


def test_every_documented_text_is_understood():
    documented = (Path(__file__).parents[2] / "docs" / "motion.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```motion\n(.*?)```", documented, flags=re.DOTALL)
    table = documented[documented.index("| text |") : documented.index("Statements apply in the order")]
    cells = [line.split("|")[1] for line in table.splitlines()[2:-1] if "`" in line.split("|")[1]]
    texts = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    texts += re.findall(r'motion[ =]"([^"]+)"', documented)
    assert len(blocks) == 3 and len(texts) > 12
    for text in (*blocks, *texts):
        assert parse_script(text).statements
