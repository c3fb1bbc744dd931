"""Where data files are looked for; nothing is ever downloaded.

An explicit ``data_dir`` is the only place searched. Without one: ``$JNAS_DATA``, the
user's data folder of the platform, then folders where a system package puts files.
"""

import os
import pathlib
import sys

__all__ = ["candidates", "user_folder"]


def user_folder() -> pathlib.Path:
    """Returns the user's data folder for jnas, e.g. ``~/.local/share/jnas``.

    Example:
      >>> user_folder().name
      'jnas'
    """
    home = pathlib.Path.home()
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        parent = home / "Library" / "Application Support"
    else:
        parent = os.environ.get("XDG_DATA_HOME") or home / ".local" / "share"
    return pathlib.Path(parent) / "jnas"


def candidates(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    system: tuple[str, ...] = (),
) -> list[pathlib.Path]:
    """Lists the folders to search for a set, in order.

    Args:
      name: the set's own folder, looked for inside every place.
      data_dir: the user's explicit place; then no other is searched.
      system: whole folders of system packages, searched last.

    Returns:
      Folders, each place itself before its sub-folder `name`; they need not exist.

    Example:
      >>> [folder.name for folder in candidates("fashion-mnist", "files")]
      ['files', 'fashion-mnist']
    """
    if data_dir is not None:
        places = [pathlib.Path(data_dir)]
    else:
        given = os.environ.get("JNAS_DATA")
        places = [pathlib.Path(given)] if given else []
        places.append(user_folder())
    found = []
    for place in places:
        place = place.expanduser()
        found += [place, place / name]
    if data_dir is None:
        found += [pathlib.Path(folder) for folder in system]
    return found
