"""What the launcher becomes when a step fails while it has kist-oci's place.

python -I -S failed.py LOG LOG-FORMAT COMMAND PLAN-FD STEP ERRNO ARGUMENT WORDS
"""

from __future__ import annotations

import sys

sys.path.append(__file__.removesuffix("/kist/faces/oci/failed.py"))  # without `site`, nobody has told where kist is

from kist.errors import KistError
from kist.faces.oci.messages import Log, Session
from kist.kernel.launcher import explain_failure


def main() -> int:
    path, format, command, *rest = sys.argv[1:]
    session = Session(Log(path, format), command=command)
    try:
        error: KistError = explain_failure(rest)
    except KistError as e:
        error = e
    if error.code == "exec-failed":
        session.log.plain(error.what)
    else:
        session.log.error(session.words(error))
    return session.exit_status


if __name__ == "__main__":
    sys.exit(main())
