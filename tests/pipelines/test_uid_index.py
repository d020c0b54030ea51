"""Places of uids, against a dictionary; also where all hashes are the same."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import database, uid_index
from pipelines.uid_index import UidIndex

UIDS = st.text("abé0", max_size=3)


@settings(max_examples=20, deadline=None)
@given(st.lists(UIDS, unique=True, max_size=40), st.lists(st.none() | UIDS, max_size=40), st.sampled_from([None, 1, 3]))
def test_every_uid_is_found_where_it_is(known: list[str], wanted: list[str | None], hashes: int | None) -> None:
    con = database.connect(threads=1)
    place = {uid: n for n, uid in enumerate(known)}
    with pytest.MonkeyPatch.context() as patch:
        if hashes is not None:
            patch.setattr(
                uid_index,
                "hashes",
                lambda _, uids: np.array([len(u or "") % hashes for u in uids.to_pylist()], np.uint64),
            )
        for kind in (pa.string(), pa.large_string()):
            found = UidIndex(con, pa.array(known, kind)).find(con, pa.array(wanted, pa.string()))
            assert found.tolist() == [place.get(uid, -1) if uid is not None else -1 for uid in wanted]
    con.close()
