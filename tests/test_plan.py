"""The plan is pure: a request in, a plan or one error out."""

from __future__ import annotations

import enum
import io
import re
import tempfile
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noinherit import Handle, exceptions, fd_arg
from noinherit._entry import Key, descriptor
from noinherit._plan import LIFELINE, check_references, plan, private_entry, resolve
from noinherit._sys.api import Held
from noinherit._sys.posix.remap import remap

LIMIT = 100


def planned(fds: Any, **options: Any) -> dict[Any, tuple[int, Any]]:
    return {e.key: (e.number, e.value) for e in plan(fds, limit=LIMIT, **options)}


class TestKeys:
    def test_a_number_is_the_number_in_the_child(self) -> None:
        assert planned({7: 4, 3: 4}) == {7: (7, 4), 3: (3, 4)}

    def test_names_get_the_lowest_free_numbers_from_3_in_order(self) -> None:
        assert planned({"a": 9, 3: 9, "b": 9, 5: 9, "c": 9}) == {
            "a": (4, 9),
            3: (3, 9),
            "b": (6, 9),
            5: (5, 9),
            "c": (7, 9),
        }

    def test_an_iterable_keeps_the_numbers(self) -> None:
        assert planned([12, 4]) == {12: (12, 12), 4: (4, 4)}

    def test_an_iterable_may_be_consumed_only_once(self) -> None:
        assert planned(iter([12])) == {12: (12, 12)}

    def test_an_iterable_and_pass_fds_may_repeat_themselves_like_subprocess(self) -> None:
        assert planned([5, 5], pass_fds=[6, 6]) == {5: (5, 5), 6: (6, 6)}

    def test_pass_fds_adds_to_fds(self) -> None:
        assert planned({"a": 9}, pass_fds=[3]) == {3: (3, 3), "a": (4, 9)}

    def test_what_fds_has_under_its_own_number_may_be_in_pass_fds_too(self) -> None:
        assert planned({5: 5, "a": 6}, pass_fds=[5]) == {5: (5, 5), "a": (3, 6)}
        assert planned([5], pass_fds=[5]) == {5: (5, 5)}

    def test_a_redirected_stream_wins_over_pass_fds_like_subprocess(self) -> None:
        assert planned((), pass_fds=[1, 5], redirected=[1]) == {5: (5, 5)}

    def test_a_number_may_be_of_a_kind_of_int(self) -> None:
        class Fd(enum.IntEnum):
            LOG = 7

        assert planned((), pass_fds=[Fd.LOG]) == {7: (7, 7)}
        assert descriptor(Fd.LOG) == 7
        (entry,) = plan({Fd.LOG: 4}, limit=LIMIT)
        assert (repr(entry.key), entry.number, entry.value) == ("7", 7, 4)
        assert repr(fd_arg(Fd.LOG)) == "fd_arg(7, '{}')"

    def test_a_name_may_be_of_a_kind_of_str(self) -> None:
        class Name(str, enum.Enum):  # noqa: UP042 -- its str() is "Name.WEB"
            WEB = "web"

        (entry,) = plan({Name.WEB: 4}, first=[Name.WEB], limit=LIMIT)
        assert (repr(entry.key), entry.number) == ("'web'", 3)
        assert repr(fd_arg(Name.WEB)) == "fd_arg('web', '{}')"

    def test_empty_fds_make_no_entries(self) -> None:
        assert planned({}) == planned(()) == {}


class TestErrorsNameKeyAndValue:
    @pytest.mark.parametrize("key", ["", None, 1.5, b"http", True, (3,)])
    def test_an_invalid_key_is_named(self, key: Any) -> None:
        with pytest.raises(exceptions.InvalidKeyError) as caught:
            planned({key: 4})
        assert repr(caught.value.key) in (repr(key), repr(repr(key)))
        assert caught.value.value == 4
        assert f"fds[{caught.value.key!r}] = 4" in str(caught.value)

    @pytest.mark.parametrize("number", [-1, -(2**70), LIMIT, 2**70])
    def test_a_number_out_of_range_is_named(self, number: int) -> None:
        with pytest.raises(exceptions.NumberOutOfRangeError, match="between 0 and 99 ") as caught:
            planned({number: 4})
        assert (caught.value.key, caught.value.value) == (number, 4)

    def test_a_name_without_a_free_number_is_refused(self) -> None:
        with pytest.raises(exceptions.NumberOutOfRangeError):
            planned({f"n{i}": 4 for i in range(LIMIT - 2)})

    def test_number_claimed_by_a_stream_and_an_entry(self) -> None:
        with pytest.raises(exceptions.NumberTakenError, match="by stdout=") as caught:
            planned({1: 4}, redirected=[1])
        assert (caught.value.key, caught.value.value, caught.value.number) == (1, 4, 1)

    def test_number_claimed_by_fds_and_pass_fds(self) -> None:
        with pytest.raises(exceptions.NumberTakenError, match=r"by fds\[5\]"):
            planned({5: 4}, pass_fds=[5])

    @pytest.mark.parametrize("value", ["7", None, 7.0, True, io.StringIO(), object, -3, 2**31])
    def test_a_value_that_is_no_descriptor_is_named(self, value: Any) -> None:
        with pytest.raises(exceptions.NotADescriptorError) as caught:
            descriptor(value, "log")
        assert caught.value.key == "log"
        assert str(value if isinstance(value, int) else repr(value)) in str(caught.value)

    def test_fileno_that_gives_a_number_of_a_derived_class(self) -> None:
        class Number(int):
            pass

        class Odd:
            def fileno(self) -> int:
                return Number(7)

        assert type(descriptor(Odd())) is int

    def test_fileno_that_gives_no_number(self) -> None:
        class Odd:
            def fileno(self) -> str:
                return "3"

        with pytest.raises(exceptions.NotADescriptorError):
            descriptor(Odd())

    def test_a_closed_file_and_a_closed_socket_are_named(self) -> None:
        with tempfile.TemporaryFile() as closed:
            pass
        with pytest.raises(exceptions.ClosedDescriptorError) as caught:
            descriptor(closed, "log")
        assert caught.value.key == "log"
        assert repr(closed) in str(caught.value)

        class ClosedSocket:
            def fileno(self) -> int:
                return -1

        with pytest.raises(exceptions.ClosedDescriptorError):
            descriptor(ClosedSocket())

    @pytest.mark.parametrize(
        ("args", "env"),
        [([fd_arg("x")], None), (["prog"], {"FD": fd_arg("x")}), (fd_arg("x"), None)],
    )
    def test_fd_arg_of_an_unknown_key(self, args: Any, env: Any) -> None:
        with pytest.raises(exceptions.UnknownKeyError, match="'x'") as caught:
            check_references(args, env, plan({"http": 4}, limit=LIMIT), lambda value: True)
        assert caught.value.key == "x"

    def test_fd_arg_of_what_will_have_no_number(self) -> None:
        entries = plan({"http": 4}, limit=LIMIT)
        with pytest.raises(exceptions.UnsupportedOptionError, match=r"fd_arg\('http'\)=4: "):
            check_references([fd_arg("http")], None, entries, lambda value: False)

    @pytest.mark.parametrize(
        ("template", "reason"),
        [
            *((text, "no field") for text in ("", "--fd=", "--fd=%d", "{{}}", "{0.real}")),
            *((text, "more than one") for text in ("{0}{0}", "{}{handle}", "{0:{handle}}")),
            *((text, "one field, {} or") for text in ("{}{}", "{1}", "{nope}", "{", "{!x}")),
            *((text, "one field, {} or") for text in ("{.nope}", "{0[1]}", "{:s}")),
        ],
    )
    def test_fd_arg_with_a_template_that_cannot_work(self, template: str, reason: str) -> None:
        with pytest.raises(exceptions.UnsupportedOptionError, match=re.escape(reason)) as caught:
            fd_arg("http", template)
        assert (caught.value.option, caught.value.value) == ("template", repr(template))

    @pytest.mark.parametrize(
        "template", ["{}", "{0}", "{handle}", "{:#x}", "{handle:d}", "{!r:>3}", "{!s}", "%d {{{}}}"]
    )
    def test_fd_arg_with_a_template_that_works(self, template: str) -> None:
        held: dict[Key, Held] = {"http": Held("http", 7, 4, "file", "1:2")}
        assert resolve(fd_arg("http", template), held) == template.format(7, handle=7)

    def test_fd_arg_with_a_template_that_is_no_text(self) -> None:
        with pytest.raises(TypeError, match=r"^template must be a str, not bytes$"):
            fd_arg("http", b"{}")  # type: ignore[arg-type]  # what is refused

    @pytest.mark.parametrize("key", ["", None, 1.5, b"http", True, (3,), -1, -2, Handle(3)])
    def test_fd_arg_with_a_key_that_is_none(self, key: Any) -> None:
        with pytest.raises(exceptions.InvalidKeyError, match=r"^fd_arg\(.*\): a key is ") as caught:
            fd_arg(key)
        assert caught.value.value is None

    @pytest.mark.parametrize(
        "use",
        [
            lambda arg: f"--fd={arg}",
            lambda arg: f"{arg:>9}",
            str,
            "--fd={}".format,
            lambda arg: "--fd=%s" % arg,  # noqa: UP031 -- what is refused
            lambda arg: "--fd=" + arg,
            lambda arg: arg + "/",
            bytes,
            lambda arg: b"--fd=%b" % arg,
            lambda arg: b"--fd=" + arg,
            lambda arg: arg + b"/",
        ],
    )
    def test_fd_arg_in_a_text(self, use: Any) -> None:
        with pytest.raises(TypeError, match=r"cannot be part of a text: .* argument template"):
            use(fd_arg("http"))
        assert repr([fd_arg("http")]) == "[fd_arg('http', '{}')]", "but it can be looked at"


@pytest.mark.parametrize("option", ["fds", "pass_fds"])
class TestOneWhereSeveralAreWanted:
    @pytest.mark.parametrize("value", [5, None, "http", b"\x03", bytearray(b"\x03"), object()])
    def test_is_refused(self, option: str, value: Any) -> None:
        with pytest.raises(exceptions.SingleValueError, match=rf"^{option}=.*") as caught:
            planned(**{"fds": (), option: value})
        assert isinstance(caught.value, TypeError), "as Python itself says of what is no iterable"
        assert isinstance(caught.value, exceptions.RequestError)

    def test_a_file_is_not_its_lines(self, option: str) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(b"a line\n")
            file.seek(0)
            with pytest.raises(
                exceptions.SingleValueError, match=r"put it in a list: .*=\[\.\.\.\]"
            ):
                planned(**{"fds": (), option: file})
            assert file.tell() == 0

    @pytest.mark.parametrize("several", [list, tuple, set, frozenset, deque, iter])
    def test_several_are_taken(self, option: str, several: Any) -> None:
        request: dict[str, Any] = {"fds": (), option: several([4])}
        (entry,) = plan(**request, limit=LIMIT)
        assert (entry.number, entry.value) == (4, 4)


class Table:
    """A descriptor table as the kernel keeps it: {number: (object, close-on-exec)}."""

    def __init__(self, numbers: set[int]) -> None:
        self.open = {number: (f"object {number}", True) for number in numbers}
        self.calls = 0

    def dup2(self, source: int, target: int) -> None:
        self.calls += 1
        assert source != target, "leaves close-on-exec set in some libcs"
        self.open[target] = (self.open[source][0], False)

    def close(self, number: int) -> None:
        self.calls += 1
        del self.open[number]

    def closefrom(self, low: int) -> None:
        self.calls += 1
        self.open = {number: what for number, what in self.open.items() if number < low}


# Small numbers collide, swap and form cycles; large ones are the soft limit's.
numbers = st.integers(0, 12) | st.integers(0, 70) | st.integers(0, 1_048_575)


@given(
    table=st.dictionaries(numbers, numbers, max_size=64),
    strays=st.sets(numbers, max_size=64),
)
def test_remap_gives_exactly_the_table(table: dict[int, int], strays: set[int]) -> None:
    here = Table({0, 1, 2} | strays | set(table.values()))
    before = dict(here.open)
    remap(table, here)
    expected = {number: (f"object {source}", False) for number, source in table.items()}
    for stream in {0, 1, 2} - table.keys():
        expected[stream] = before[stream]
    assert here.open == expected
    assert here.calls <= 4 * len(table) + 1, "the work must not grow with the numbers"


@pytest.mark.parametrize(
    "table",
    [
        {},
        {3: 3},
        {3: 4, 4: 3},
        {3: 4, 4: 5, 5: 3},
        {0: 1, 1: 0, 2: 2},
        {0: 3, 1: 3, 2: 3, 3: 0, 4: 1, 5: 2},
        {3: 9, 4: 9, 900: 9},
        {1_048_575: 3, 3: 1_048_575},
        dict(zip(range(3, 67), [*range(4, 67), 3], strict=True)),
    ],
)
def test_remap_of_awkward_tables(table: dict[int, int]) -> None:
    here = Table({0, 1, 2, 5, 70} | set(table.values()))
    remap(table, here)
    assert {n: what for n, (what, _) in here.open.items() if n > 2 or n in table} == {
        n: f"object {source}" for n, source in table.items()
    }


class TestLifeline:
    @pytest.mark.parametrize(
        ("own", "taken", "number"),
        [(7, [], 7), (7, [7], 3), (7, [3, 7, 4], 5), (2, [], 3), (LIMIT, [3], 4)],
    )
    def test_the_lifeline_has_its_own_number_or_a_free_one(
        self, own: int, taken: list[int], number: int
    ) -> None:
        class Open:
            def fileno(self) -> int:
                return own

        entries = plan(dict.fromkeys(taken, 0), limit=LIMIT)
        assert private_entry(LIFELINE, Open(), entries, LIMIT).number == number

    def test_the_lifeline_is_refused_where_all_numbers_are_taken(self) -> None:
        entries = plan(dict.fromkeys(range(3, LIMIT), 0), limit=LIMIT)
        with tempfile.TemporaryFile() as file, pytest.raises(exceptions.NumberOutOfRangeError):
            private_entry(LIFELINE, file, entries, LIMIT)


def test_an_environment_that_is_none() -> None:
    with pytest.raises(TypeError, match="not bool"):
        check_references(["x"], False, [], bool)
