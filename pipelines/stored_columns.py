"""What the columns of a store's tables and versions take on disk, from the footers of their files."""

from __future__ import annotations

from pipelines import database
from pipelines.store import State, Store

_EMPTY = (
    "select ''::varchar as place, ''::varchar as name, ''::varchar as column_name, 0::bigint as rows, "
    "0::bigint as bytes where false"
)


def create_stored_columns(con: database.Connection, store: Store, state: State) -> None:
    """Function `stored_columns()` of the database: place (tables | versions), name, column_name, rows and bytes (as
    they lie on disk) of each column in each row group.

    A column within a column is named with a dot, such as `texts.text`. A function and not a view, because a view would
    open the footers of all files whenever the store is opened.
    """
    files = [*store.texts_files(), *(path for name in sorted(state.tables) for path in store.files(state, name))]
    files += [path for name in state.versions for path in sorted((store.root / "versions" / name).glob("*.parquet"))]
    listed = ", ".join(database.literal(str(path)) for path in dict.fromkeys(files))
    footers = (
        "select parse_path(file_name)[-3] as place, parse_path(file_name)[-2] as name, "
        "replace(replace(path_in_schema, ', list, element', ''), ', list, item', '') as path, "
        f"row_group_num_rows as rows, total_compressed_size as bytes from parquet_metadata([{listed}])"
    )
    chunks = f"select place, name, replace(path, ', ', '.') as column_name, rows, bytes from ({footers})"
    con.execute(f"create macro stored_columns() as table {chunks if files else _EMPTY}")
