"""Tables of requests: CSV and JSON in all their forms, and every mistake of a table is listed."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.lab.forgetting.tables import Request, read_requests

TIME = "2026-11-26T14:00:00+00:00"
SHA = "0123456789abcdef" * 4
HEADER = "request,received,file\n"


def read(tmp_path, content, name="requests.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_requests(path)


def refused(tmp_path, content):
    with pytest.raises(InvalidInputError) as error:
        read(tmp_path, content)
    return str(error.value)


ONE = [Request("r1", TIME, None, (("name", "a.png"),))]
ROWS = [Request("r1", TIME, None, (("row", 3), ("row", 5)))]


@pytest.mark.parametrize(
    ("content", "requests"),
    [
        (f"request,received,file\nr1,{TIME},a.png\n", ONE),
        (f"id;received;path\r\nr1;{TIME};a.png\r\n;;\r\n", ONE),
        ("Request ID\tReceived\tFile Name\nr1\t2026-11-26 14:00\ta.png", ONE),
        ("\n\nrequest_id, received, name\nr1, 20261126T140000Z, a.png\n", ONE),
        (b"\xef\xbb\xbf" + f'"request","received","file"\n"r1","{TIME}","a.png"'.encode(), ONE),
        (f"sep=;\nrequest;received;tfds_id\nr1;{TIME};a.png\n".encode("utf-16"), ONE),
        ("request,received,file,\nr1,2026-11-26T15:00:00+01:00,a.png,\n", ONE),
        (f"request,received,index\nr1,{TIME},3\nr1,{TIME},5.0\nr1,{TIME},3\n", ROWS),
        (
            f"request,received,deadline,sha256\n#7,2026-11-26,2026-11-26,{SHA.upper()}\n",
            [
                Request(
                    "#7",
                    "2026-11-26T00:00:00+00:00",
                    "2026-11-26T23:59:59+00:00",
                    (("sha256", SHA),),
                )
            ],
        ),
        (
            f"request,received,row,file,example\nr1,{TIME},3,a.png,\nr1,{TIME},,,b\nr2,{TIME},4,,\n",
            [
                Request("r1", TIME, None, (("row", 3), ("name", "a.png"), ("any", "b")), ((0, 1),)),
                Request("r2", TIME, None, (("row", 4),)),
            ],
        ),
        (
            f'request,received,file\nr1,{TIME},"a,\nb ""c"".png"\n',
            [Request("r1", TIME, None, (("name", 'a,\nb "c".png'),))],
        ),
        (f'{{"request": "r1", "received": "{TIME}", "file": "a.png"}}\n\n', ONE),
        (f'[\n{{"id": "r1", "received": "{TIME}",\n "file": "a.png", "deadline": null}}]', ONE),
        (
            f'{{"id": 1, "received": "{TIME}", "examples": [3, "a", {{"file": "7"}}, "{SHA}"]}}\n'
            f'{{"id": 1, "received": "{TIME}", "index": 3}}\n',
            [
                Request(
                    "1",
                    TIME,
                    None,
                    (("any", 3), ("any", "a"), ("name", "7"), ("any", SHA), ("row", 3)),
                )
            ],
        ),
    ],
)
def test_every_form_of_a_table_says_the_same(tmp_path, content, requests):
    assert read(tmp_path, content) == requests


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "#c"]),
            st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1),
        ),
        min_size=1,
    ),
    st.sampled_from(",;\t"),
)
def test_csv_and_json_of_the_same_names_agree(tmp_path_factory, lines, separator):
    folder = tmp_path_factory.mktemp("tables")
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([("request", "received", "file"), *((a, TIME, b) for a, b in lines)])
    objects = [{"request": a, "received": TIME, "file": b} for a, b in lines]
    requests = read(folder, text.getvalue())
    assert requests == read(folder, "\n".join(map(json.dumps, objects)))
    assert requests == read(folder, json.dumps(objects))
    assert {request.id for request in requests} == {name for name, _ in lines}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        (HEADER, "names no request"),
        ("[]", "names no request"),
        ("received,file\n", "no column request"),
        ("request,file\n", "no column received"),
        ("request,received\n", "no column that names examples"),
        ("request,recieved,file\n", "unknown column 'recieved'; did you mean 'received'?"),
        ("request,received,file,reason\n", "unknown column 'reason'; leave it out"),
        ("request,received,file,path\n", "file and path may both be the name"),
        ("request,received,examples\n", "an example a line"),
        ("r1,2026-11-26,a.png\n", "unknown column"),
        (f'{HEADER}r1,{TIME},"a.png\n', "quotation marks"),
        (f"{HEADER}r1,{TIME},a.png".encode() + b"\xff", "save it as UTF-8"),
        (f"{HEADER},{TIME},a.png\n", "line 2: it has no request id"),
        (f"{HEADER}r1,,a.png\n", "line 2: it does not say when"),
        (f"{HEADER}r1,26/11/2026,a.png\n", "line 2: received: '26/11/2026' is no time"),
        (f"{HEADER}r1,{TIME},\n", "line 2: it names no example"),
        (f"{HEADER}r1,{TIME}\n", "line 2: it has 2 cells under 3 columns"),
        (f"{HEADER}r1,{TIME},a,b.png\n", "line 2: it has 4 cells under 3 columns"),
        (f"{HEADER[:-1]},\nr1,{TIME},a,x\n", "line 2: it has 4 cells under 3 columns"),
        (f"request,received,row\nr1,{TIME},a.png\n", "'a.png' is no row"),
        (f"request,received,row\nr1,{TIME},1.5\n", "'1.5' is no row"),
        (f"request,received,sha256\nr1,{TIME},abc\n", "'abc' is no SHA-256"),
        (
            f"request,received,deadline,row\nr1,{TIME},2026-11-25,3\n",
            "deadline 2026-11-25 23:59:59+00:00 is before",
        ),
        (
            f"{HEADER}r1,{TIME},a.png\nr2,{TIME},b.png\nr1,2026-11-25,c.png\n",
            "line 2 and line 4: both are of request 'r1', but say received",
        ),
        ('{"request": "r1", "received": 5, "row": 1}', "received: 5 is no time"),
        (f'{{"request": true, "received": "{TIME}", "row": 1}}', "entry 1: it has no request id"),
        (f'{{"request": "r", "received": "{TIME}", "row": true}}', "got True"),
        (f'{{"request": "r", "received": "{TIME}", "examples": 3}}', "wanted a list"),
        (f'{{"request": "r", "received": "{TIME}", "examples": [{{}}]}}', "names no example"),
        (f'{{"request": "r", "received": "{TIME}", "examples": [{{"id": 1}}]}}', "not belong here"),
        (f'{{"request": "r", "received": "{TIME}", "row": 1, "row": 2}}', "gives 'row' twice"),
        (f'{{"request": "r", "received": "{TIME}", "row": NaN}}', "NaN"),
        ('[{"request": "r"},]', "cannot be read as JSON"),
        ("[3]", "entry 1: wanted an object, got 3"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, content, message):
    assert message in refused(tmp_path, content)


def test_all_mistakes_are_counted_and_ten_listed(tmp_path):
    good, bad = f"r,{TIME},a.png\n", f",{TIME},a.png\n"
    message = refused(tmp_path, HEADER + good + bad * 12)
    assert "mistakes in 12 of 13 lines" in message
    assert "line 12: " in message
    assert "line 13: " not in message
    assert message.endswith("and 2 more")


def test_lines_are_counted_as_an_editor_does(tmp_path):
    message = refused(tmp_path, f'sep=,\n{HEADER}r1,{TIME},"a\nb"\n\nr2,,c\n')
    assert "line 6: " in message


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_requests(tmp_path / "none.csv")
