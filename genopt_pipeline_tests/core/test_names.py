"""A post is credited to the generator that was meant, or to none; never to a similar one."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from genopt_pipeline.core.generators import DEFAULT_WEIGHTS
from genopt_pipeline.core.names import colliding_names, normalize_name, resolve, suggest

REGISTERED = tuple(DEFAULT_WEIGHTS)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("NewsReporter", "newsReporter"),
        ("newsreporter", "newsReporter"),
        ("NEWS_REPORTER", "newsReporter"),
        ("news-reporter", "newsReporter"),
        ("news reporter", "newsReporter"),
        ("  HumanVoice (style)  ", "humanVoice"),
        ("HumanVoice(style)", "humanVoice"),
        ("Human Voice (v 2.1 - beta)", "humanVoice"),
        ("thought\u00a0Leader", "thoughtLeader"),
        ("data\tnerd\n", "dataNerd"),
    ],
)
def test_case_blanks_separators_and_one_suffix_do_not_hide_a_generator(raw, name):
    assert resolve(raw, REGISTERED) == name


@pytest.mark.parametrize(
    "raw",
    [
        "newsReporters",  # similar, but not the same
        "news",
        "",
        "   ",
        "(style)",
        "-_-",
        "humanVoice (style) (again)",  # only one suffix is dropped
        "humanVoice (style (nested))",
        "(style) humanVoice",
        "humanVoiсe",  # a Cyrillic letter that looks like a c
    ],
)
def test_what_is_not_certainly_a_registered_generator_stays_unknown(raw):
    assert resolve(raw, REGISTERED) is None


@given(
    st.sampled_from(REGISTERED),
    st.lists(st.sampled_from(["upper", "lower", "title"]), min_size=1),
    st.sampled_from(["", " ", "_", "-", " - "]),
    st.sampled_from(["", " (style)", "(x)", " ()"]),
)
def test_every_such_spelling_of_a_default_generator_finds_it(name, cases, separator, suffix):
    half = len(name) // 2
    spelled = name[:half] + separator + name[half:]
    for case in cases:
        spelled = getattr(spelled, case)()
    assert resolve(f" {spelled}{suffix}\n", REGISTERED) == name


@given(st.text())
def test_normalizing_twice_changes_nothing_unless_a_second_suffix_was_there(raw):
    key = normalize_name(raw)
    assume(not key.endswith(")"))
    assert normalize_name(key) == key


@given(st.text(), st.lists(st.text(min_size=1), unique=True))
def test_a_resolved_name_is_always_registered_and_has_the_key_of_the_spelling(raw, registered):
    name = resolve(raw, registered)
    assert name is None or (name in registered and normalize_name(name) == normalize_name(raw))


@given(st.lists(st.text(), min_size=1, unique=True))
def test_a_registered_name_letter_for_letter_is_itself_even_beside_a_twin(registered):
    assert all(resolve(name, registered) == name for name in registered)


def test_two_registered_names_with_one_key_make_other_spellings_ambiguous():
    twins = ("newsReporter", "news_reporter")
    assert resolve("NewsReporter", twins) is None
    assert resolve("news_reporter", twins) == "news_reporter"
    assert colliding_names([*twins, "coach", "(x)"]) == {
        "newsreporter": ("newsReporter", "news_reporter"),
        "": ("(x)",),
    }


def test_an_alias_resolves_in_any_spelling_but_only_to_a_registered_name():
    aliases = {"News Bot": "newsReporter", "ghost": "nobody"}
    assert resolve("news-bot (v2)", REGISTERED, aliases) == "newsReporter"
    assert resolve("ghost", REGISTERED, aliases) is None


def test_aliases_that_contradict_each_other_or_a_name_resolve_nothing():
    assert resolve("bot", REGISTERED, {"bot": "coach", "BOT": "explorer"}) is None
    assert resolve("Coach", REGISTERED, {"coach": "explorer"}) is None
    assert resolve("bot", REGISTERED, {"bot": "coach", "BOT": "coach"}) == "coach"


def test_suggestions_name_what_may_have_been_meant_and_resolve_nothing():
    assert suggest("newsRepoter", REGISTERED)[0] == "newsReporter"
    assert resolve("newsRepoter", REGISTERED) is None
    assert suggest("zzzz", REGISTERED) == ()
    assert suggest("", REGISTERED) == ()
