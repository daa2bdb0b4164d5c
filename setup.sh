#!/usr/bin/env bash
# Makes .venv with the exact versions of requirements.lock, and the system packages that they need.
#
#   ./setup.sh          everything; does nothing when all is there
#   ./setup.sh system   only the system packages
#   ./setup.sh boards   everything, and the tools that synthesize and place (make timing)
#   ./setup.sh lock     write requirements.lock anew from pyproject.toml
#
# Exit codes: 0 ready, 1 an installation failed, 2 the user has to do something (it says what).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# What of pyproject.toml goes into .venv. `boards` is large and stays out until something is synthesized.
readonly EXTRAS=hdl,sim,formal,test,lint
readonly UV_VERSION=0.13.9 # writes the lock
readonly VENV=.venv
readonly STAMP=$VENV/tickgate-ready # written last: an interrupted installation leaves none
readonly BOARDS_STAMP=$VENV/tickgate-boards # there are the tools of ./setup.sh boards
readonly LOG=$VENV/setup.log

say() { printf 'setup: %s\n' "$*"; }

die() { # CODE LINE...
    local code=$1
    shift
    printf 'setup: %s\n' "$@" >&2
    exit "$code"
}

# ---- Python ---------------------------------------------------------------------------------

# Prints 'VERSION ENSUREPIP LIBPYTHON PREFIX' of an interpreter; fails when it is older than 3.11.
# cocotb embeds Python in the simulator, so the interpreter's shared library must be there.
readonly PROBE='
import importlib.util as find, os, subprocess, sys, sysconfig
if sys.version_info < (3, 11):
    sys.exit(1)
version = "%d.%d" % sys.version_info[:2]
names = {"libpython%s.so.1.0" % version}
names |= {str(sysconfig.get_config_var(v)) for v in ("INSTSONAME", "LDLIBRARY")}
names = {name for name in names if ".so" in name}
libdir = sysconfig.get_config_var("LIBDIR") or "/usr/lib"
folders = [libdir, os.path.join(libdir, sysconfig.get_config_var("MULTIARCH") or "")]
found = any(os.path.exists(os.path.join(folder, name)) for folder in folders for name in names)
if not found and sys.base_prefix == "/usr":
    for ldconfig in ("ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True).stdout
        except OSError:
            continue
        found = any(name in listed for name in names)
        break
pip = bool(find.find_spec("venv") and find.find_spec("ensurepip"))
print(version, "yes" if pip else "no", "yes" if found else "no", sys.base_prefix)
'

probe() { "$1" -I -c "$PROBE" 2>/dev/null; }

# What .venv stands on; a change means a new one.
base() { echo "$PWD $("$1" -I -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null | tr '\n' ' ')"; }

# Sets PYTHON, PY_VERSION, PY_PIP, PY_LIB. The one that .venv was made from is kept, whatever PATH says today. Else
# an interpreter that lacks nothing is preferred, then one of the distribution, to which packages can add what it lacks.
find_python() {
    local name version pip lib prefix names=(python3{,.13,.12,.11} /usr/bin/python3{,.13,.12,.11})
    if [[ -f $STAMP && $(head -n 1 "$STAMP") == "$(base "$VENV/bin/python")" ]]; then
        names=("$VENV/bin/python" "${names[@]}")
    fi
    PYTHON='' PY_VERSION='' PY_PIP='' PY_LIB='' UNSHARED=''
    for name in "${names[@]}"; do
        read -r version pip lib prefix < <(probe "$name") || continue
        if [[ $pip$lib == yesyes || ($prefix == /usr && -z $PYTHON) ]]; then
            PYTHON=$(command -v "$name") PY_VERSION=$version PY_PIP=$pip PY_LIB=$lib
            [[ $pip$lib == yesyes ]] && return 0
        else
            UNSHARED=$name
        fi
    done
    [[ -n $PYTHON ]]
}

# The newest Python package that this distribution has and the lock allows.
python_package() {
    local version
    for version in 3.13 3.12 3.11; do
        if apt-cache show "python$version" >/dev/null 2>&1; then
            echo "python$version"
            return
        fi
    done
    echo python3.11
}

# ---- System packages ------------------------------------------------------------------------

MISSING=() # Debian package names
REASONS=()

need() { # PACKAGE REASON
    MISSING+=("$1")
    REASONS+=("$1 ($2)")
}

has_header() {
    if command -v g++ >/dev/null; then
        g++ -E -x c++ -o /dev/null - <<<"#include <$1>" 2>/dev/null
    else
        [[ -e /usr/include/$1 ]]
    fi
}

find_missing() {
    MISSING=() REASONS=()
    if find_python; then
        [[ $PY_PIP == yes ]] || need "python$PY_VERSION-venv" "makes .venv"
        [[ $PY_LIB == yes ]] || need "libpython$PY_VERSION" "the simulator embeds Python"
    else
        local package
        [[ -z $UNSHARED ]] || say "$UNSHARED was built without a shared library or ensurepip; another one is needed"
        package=$(python_package)
        need "$package" "Python 3.11 or newer"
        need "$package-venv" "makes .venv"
        need "lib$package" "the simulator embeds Python"
    fi
    command -v g++ >/dev/null || need g++ "compiles the simulated card"
    command -v make >/dev/null || need make "builds the simulated card"
    # Verilator's front script uses modules that Debian's perl-base leaves out.
    perl -MPod::Usage -MGetopt::Long -MFindBin -e 1 2>/dev/null || need perl "runs Verilator's front script"
    has_header zlib.h || need zlib1g-dev "zlib, compresses the waves"
    has_header lz4.h || need liblz4-dev "LZ4, compresses the waves"
}

join() { # SEPARATOR WORD...
    local separator=$1 word text=''
    shift
    for word in "$@"; do text+=${text:+$separator}$word; done
    echo "$text"
}

install_system() {
    find_missing
    ((${#MISSING[@]})) || return 0
    local reasons root=()
    reasons=$(join ', ' "${REASONS[@]}")
    if ! command -v apt-get >/dev/null; then
        die 2 "missing: $reasons" \
            "There is no apt-get here. Install your system's packages for these (the names are Debian's), then run this again."
    fi
    if (($(id -u) != 0)); then
        if ! sudo -n true 2>/dev/null; then
            die 2 "missing: $reasons" "Type this, then run it again:" \
                "    sudo apt-get update && sudo apt-get install -y ${MISSING[*]}"
        fi
        root=(sudo -n)
    fi
    say "installing system packages with apt-get, about a minute: $reasons"
    local log options=(-qq -o DPkg::Lock::Timeout=120) # a fresh machine may be updating itself
    log=$(mktemp)
    "${root[@]}" apt-get update "${options[@]}" >"$log" 2>&1 ||
        say "apt-get update failed; going on with the package lists that are there"
    if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${options[@]}" \
        "${MISSING[@]}" >>"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die 1 "apt-get could not install: ${MISSING[*]}"
    fi
    rm -f "$log"
    find_missing
    ((${#MISSING[@]} == 0)) || die 1 "still missing after apt-get: $(join ', ' "${REASONS[@]}")"
    say "system packages are ready"
}

# ---- The Python environment -----------------------------------------------------------------

# What .venv holds; a change means an update.
contents() { cat pyproject.toml requirements.lock setup.sh | sha256sum | cut -d' ' -f1; }

# Turns pip's report into a line now and then; the whole of it goes to the log.
progress() {
    awk -v terminal="$([[ -t 1 ]] && echo 1)" '
        /^Collecting / {
            count++
            if (terminal) printf "\r\033[Ksetup:   %d %s", count, $2
            else if (count % 20 == 0) print "setup:   " count " packages fetched"
            fflush()
        }
        /^Installing collected packages/ {
            if (terminal) printf "\r\033[K"
            if (count) print "setup:   " count " packages fetched, unpacking them"
            fflush()
        }
        /^Successfully installed / {
            line = "setup:   installed"
            for (i = 3; i <= NF; i++) {
                if (length(line) + length($i) > 110) { print line; line = "setup:    " }
                line = line " " $i
            }
            print line
        }'
}

pip_install() {
    "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        --constraint requirements.lock "$@" 2>&1 </dev/null | tee -a "$LOG" | progress && return
    tail -n 15 "$LOG" >&2
    die 1 "pip failed (the whole report: $LOG). Run it again when the cause is gone."
}

install_python() {
    local stamp='' extras=$EXTRAS base contents
    base=$(base "$PYTHON")
    contents=$(contents)
    if [[ -f $STAMP ]]; then stamp=$(<"$STAMP"); fi
    if [[ $stamp == "$base"$'\n'"$contents" ]]; then return; fi
    if [[ -f $BOARDS_STAMP ]]; then extras+=,boards; fi
    if [[ ${stamp%%$'\n'*} != "$base" ]]; then
        say "making $VENV with Python $PY_VERSION ($PYTHON)"
        rm -rf "$VENV"
        "$PYTHON" -m venv "$VENV"
        extras=$EXTRAS
        say "installing the versions of requirements.lock ($extras), about 275 MB to fetch, one to three minutes"
    else
        say "bringing $VENV up to date with requirements.lock and pyproject.toml"
    fi
    rm -f "$STAMP"
    : >"$LOG"
    pip_install setuptools >/dev/null
    # Build isolation would fetch a build backend that the lock does not name.
    pip_install --no-build-isolation --editable ".[$extras]"
    "$VENV/bin/python" -m compileall -q -j 0 hdl host sim bitstreams >/dev/null || true
    printf '%s\n%s\n' "$base" "$contents" >"$STAMP.new"
    mv "$STAMP.new" "$STAMP"
    say "$VENV is ready"
}

# After install_python, which keeps them up to date from then on.
install_boards() {
    if [[ -f $BOARDS_STAMP ]]; then return; fi
    say "installing yosys and nextpnr, about 100 MB to fetch, a minute"
    pip_install --no-build-isolation --editable ".[$EXTRAS,boards]"
    touch "$BOARDS_STAMP"
    say "the tools are ready; the first call of each compiles WebAssembly for about a minute"
}

# ---- The lock -------------------------------------------------------------------------------

write_lock() {
    find_python || die 2 "Python 3.11 or newer is needed"
    LOCK_VENV=$(mktemp -d)
    trap 'rm -rf "$LOCK_VENV"' EXIT
    "$PYTHON" -m venv "$LOCK_VENV"
    "$LOCK_VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
    # uv does not read pip's settings; whoever set up pip should not have to do it twice.
    export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-}} UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
    [[ -n $UV_DEFAULT_INDEX ]] || unset UV_DEFAULT_INDEX
    [[ -n $UV_FIND_LINKS ]] || unset UV_FIND_LINKS
    [[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
    # --fork-strategy fewest: one version of a package for every Python that is supported.
    "$LOCK_VENV/bin/uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
        --all-extras --group build --upgrade --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml
    say "requirements.lock names $(grep -c '==' requirements.lock) packages"
}

# One set-up at a time in this folder; a second one waits and then finds everything done.
if command -v flock >/dev/null; then
    exec 9<pyproject.toml
    flock 9
fi

case ${1:-all} in
    all)
        install_system
        install_python
        ;;
    system) install_system ;;
    boards)
        install_system
        install_python
        install_boards
        ;;
    lock) write_lock ;;
    *) die 2 "usage: ./setup.sh [system | boards | lock]" ;;
esac
