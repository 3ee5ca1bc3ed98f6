"""Decides by the rules of a file, with rego-cpp: a line is a question, as JSON; the answer is a line, too.

A question is {"rule": NAME, "input": DOCUMENT}, its answer what the rule says of the document.

usage: decide RULES
"""

import json
import sys

from regopy import Interpreter


def main():
    rego = Interpreter()
    with open(sys.argv[1], encoding="utf-8") as rules:
        rego.add_module("bz.rego", rules.read())
    for line in sys.stdin:
        question = json.loads(line)
        rego.set_input(question["input"])
        # Kept, for what it binds lives no longer than it does.
        output = rego.query(f"answer := data.bz.{question['rule']}")
        print(json.dumps(json.loads(str(output.binding("answer")))), flush=True)


main()
