"""``python -m tests.wsgi.express MODULE:APPLICATION HOST PORT``: mod_wsgi-express.

Apache refuses to serve as root, so where we are root it serves as somebody else,
who keeps our rights: this Python, the checkout and the files of the tests may be
where only root can read.
"""

import grp
import os
import pwd
import sys
from pathlib import Path

from ..servers.events import VARIABLE

KEEP_RIGHTS = ("--securebits", "+no_setuid_fixup")
"""With these of setpriv a process keeps its capabilities when it becomes somebody else."""

if __name__ == "__main__":
    module, _, entry = sys.argv[1].partition(":")
    host, port = sys.argv[2:]
    command = [
        *(sys.executable, "-m", "mod_wsgi.express.cli", "start-server", module),
        *("--application-type", "module", "--callable-object", entry),
        *("--host", host, "--port", port, "--processes", "1", "--threads", "4"),
        *("--keep-alive-timeout", "5", "--log-to-terminal"),
        *("--working-directory", os.getcwd()),
        *("--server-root", str(Path(os.environ[VARIABLE]).with_name(f"express-{port}"))),
    ]
    if os.geteuid() == 0:
        command[:0] = ["setpriv", *KEEP_RIGHTS]
        nobody = pwd.getpwnam("nobody")
        group = grp.getgrgid(nobody.pw_gid).gr_name
        command += ["--user", nobody.pw_name, "--group", group]
    os.execvp(command[0], command)
