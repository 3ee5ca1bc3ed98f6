#!/usr/bin/env python3
"""Records real shells for the tests of the command lens: what went in, what came out, and when a password was asked for.

To record anew, with bash, dash, zsh and fish installed, from the root of the repository:

    python3 bz-server/tests/it/lens/record.py

Each file holds events in order: ["o", base64] output, ["i", base64] input, ["p", bool] whether the terminal reads a
line without showing it, ["r", rows, columns] a new size. The marks come from the agent's own files.
"""

import base64, fcntl, json, os, pathlib, pty, select, struct, sys, tempfile, termios, time

HERE = pathlib.Path(__file__).resolve().parent
MARKS = HERE.parents[3] / "bz-agent" / "src" / "marks"
QUIET, LONGEST = 0.4, 20.0


class Recording:
    def __init__(self, program, environment, files):
        self.events, self.password, self.home = [], False, tempfile.TemporaryDirectory()
        for name, text in files.items():
            path = pathlib.Path(self.home.name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        settled = {key: value.replace("~", self.home.name) for key, value in environment.items()}
        basic = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": self.home.name}
        child, self.terminal = pty.fork()
        if child == 0:
            os.chdir(self.home.name)
            os.execve(program[0], program, {**basic, **settled})
        self.size(24, 80, note=False)
        self.drain()

    def size(self, rows, columns, note=True):
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if note:
            self.events.append(["r", rows, columns])

    def note(self, kind, data):
        self.events.append([kind, base64.b64encode(data).decode()])

    def look(self):
        try:
            flags = termios.tcgetattr(self.terminal)[3]
        except termios.error:
            return
        hidden = bool(flags & termios.ICANON) and not flags & termios.ECHO
        if hidden != self.password:
            self.password = hidden
            self.events.append(["p", hidden])

    def drain(self):
        began = time.monotonic()
        while time.monotonic() - began < LONGEST and select.select([self.terminal], [], [], QUIET)[0]:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:
                return
            if not data:
                return
            self.note("o", data)
            self.look()
        self.look()

    def type(self, keys):
        """One key at a time, as a person does, except that what is given as bytes is sent at once."""
        for part in [keys] if isinstance(keys, bytes) else pieces(keys):
            self.note("i", part)
            os.write(self.terminal, part)
            if not isinstance(keys, bytes) and select.select([self.terminal], [], [], 0.05)[0]:
                data = os.read(self.terminal, 65536)
                self.note("o", data)
        self.drain()


def pieces(keys):
    """Characters and whole escape sequences."""
    data, at = keys.encode(), 0
    while at < len(data):
        end = at + 1
        if data[at] == 0x1B:
            end = at + 3
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        yield data[at:end]
        at = end


LINES = [
    "echo hi\r", "ecko\x7f\x7fho fixed\r", "\x1b[A\x1b[D\x1b[D\x1b[DXX\r", "echo naïve 日本\r", "\r", "gone\x03",
    "echo " + "a" * 100 + "\r", b"echo at once\r", "for i in 1 2\r", "do echo $i; done\r",
    "read word\r", "answered\r", "cat notes.txt\r", "stty -echo; head -n 1; stty echo\r", "hunter2\r",
    "less notes.txt\r", "\r", "q", "vi notes.txt\r", "ihello\r", "\x1b", ":q!\r", "echo back\r",
]
EDITING = [b"echo \x1b[200~pasted text\x1b[201~\r", "\x12fixed\r", "ls /et\thostn\t\r", "\x0c", "echo after clear\r",
           (20, 60), "echo " + "b" * 70 + "\x1b[D\r"]
HIDDEN = ["read -s secret\r", "hunter2\r"]
NESTED = ["dash\r", "echo inner\r", "exit\r"]
FISH = ["for i in 1 2\r", "echo $i; end\r"]
NOTES = {"notes.txt": "one\ntwo\n" * 40}


def bash():
    return {"PROMPT_COMMAND": '${__bz_done-eval "${BZ_MARKS-}"}', "PS0": r"\e]133;C\a",
            "BZ_MARKS": (MARKS / "bash.sh").read_text()}


def adapted(lines):
    """fish knows no `do`."""
    at = lines.index("for i in 1 2\r")
    return lines[:at] + FISH + lines[at + 2:]


CASES = {
    "bash_marks": (["/bin/bash", "-l"], bash(), {".bash_profile": "PS1='me@host:\\w$ '; HISTCONTROL=ignoreboth\n"},
                   LINES + EDITING + HIDDEN + NESTED + [" echo kept out of history\r", "exit\r"]),
    "bash_plain": (["/bin/bash", "--norc", "--noprofile"], {"PS1": "me@host:~$ "}, {},
                   LINES + EDITING + HIDDEN + NESTED + ["exit\r"]),
    "dash": (["/bin/dash", "-i"], {"PS1": "$ "}, {},
             [line for line in LINES if "\x1b[A" not in str(line)] + ["exit\r"]),
    "zsh_marks": (["/bin/zsh", "-i"], {"ZDOTDIR": "~/made"},
                  {"made/.zshenv": (MARKS / "zshenv.zsh").read_text(), ".zshrc": "PS1='%m%# '; RPROMPT='at noon'\n"},
                  LINES + EDITING + HIDDEN + NESTED + ["exit\r"]),
    "zsh_plain": (["/bin/zsh", "-f"], {"PS1": "%# "}, {}, LINES + EDITING + HIDDEN + NESTED + ["exit\r"]),
    "fish_marks": (["/usr/bin/fish", "--init-command", (MARKS / "init.fish").read_text()], {}, {},
                   adapted(LINES) + ["read --silent secret\r", "hunter2\r"] + NESTED + ["exit\r"]),
    "fish_plain": (["/usr/bin/fish", "--no-config"], {}, {}, adapted(LINES) + NESTED + ["exit\r"]),
}

if __name__ == "__main__":
    for name, (program, environment, files, lines) in CASES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        recording = Recording(program, environment, {**NOTES, **files})
        for keys in lines:
            recording.size(*keys) if isinstance(keys, tuple) else recording.type(keys)
        text = "[\n" + ",\n".join(json.dumps(event) for event in recording.events) + "\n]\n"
        HERE.joinpath(name + ".json").write_text(text)
        print(name, len(recording.events), "events")
