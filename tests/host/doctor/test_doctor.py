"""The doctor reads what Linux says, and says what it costs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from host.doctor import Machine, State, examine
from host.doctor.finding import cpu_list, cpu_mask, cpu_text
from host.doctor.measure import gap_finding, gaps, sync

ROOT = Path(__file__).resolve().parents[3]

TUNED = {
    "proc/cpuinfo": "processor : 0\nflags\t\t: fpu tsc constant_tsc\n",
    "proc/stat": "cpu  100 0 100 10000 0 0 0 0 0 0\n",
    "sys/devices/system/cpu/online": "0-3",
    "sys/devices/system/cpu/isolated": "2-3",
    "sys/devices/system/cpu/nohz_full": "2-3",
    "sys/devices/system/cpu/smt/active": "0",
    "sys/devices/system/cpu/cpu0/cpuidle/state0/latency": "0",
    "sys/devices/system/cpu/cpu0/cpuidle/state1/latency": "2",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    "sys/kernel/mm/transparent_hugepage/shmem_enabled": "always within_size [advise] never deny force",
    "sys/kernel/mm/transparent_hugepage/defrag": "always defer [madvise] never",
    "proc/sys/vm/nr_hugepages": "512",
    "proc/sys/vm/swappiness": "60",
    "proc/swaps": "Filename Type Size Used Priority",
    "proc/sys/kernel/numa_balancing": "0",
    "proc/self/limits": "Limit Soft Hard Units\nMax locked memory         unlimited            unlimited            bytes",
    "proc/self/timerslack_ns": "1000",
    "proc/mounts": "tmpfs /dev/shm tmpfs rw,size=4096m 0 0",
    "proc/irq/24/effective_affinity": "1",
    "proc/irq/25/effective_affinity": "1",
    "sys/class/net/eth0/device/vendor": "0x8086",
    "sys/class/net/eth0/queues/rx-0/rps_cpus": "0",
    "sys/class/net/eth0/gro_flush_timeout": "0",
    **{f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor": "performance" for number in range(4)},
}


def machine(directory: Path, **changed: str | None) -> Machine:
    """A machine that is as it should be, but for some files (``__`` in place of ``/``)."""
    files: dict[str, str | None] = {**TUNED, **{name.replace("__", "/"): text for name, text in changed.items()}}
    for name, text in files.items():
        if text is not None:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text + "\n")
    return Machine(directory)


def test_a_machine_that_is_tuned_costs_nothing(tmp_path: Path) -> None:
    findings = examine(machine(tmp_path))
    assert [each for each in findings if each.state is State.COSTS] == []
    assert [each.name for each in findings if each.state is State.UNKNOWN] == ["interrupt coalescing of eth0"]


@pytest.mark.parametrize(
    ("file", "text", "name", "says", "mend"),
    [
        ("sys__devices__system__cpu__cpu1__cpufreq__scaling_governor", "powersave", "frequency governor", "powersave", "cpupower"),
        ("sys__devices__system__cpu__smt__active", "1", "SMT", "on", "smt/control"),
        ("sys__devices__system__cpu__isolated", "", "isolated processors", "none", "isolcpus=1-3"),
        ("sys__devices__system__cpu__nohz_full", "(null)", "ticks on busy processors", "on all", "nohz_full=1-3"),
        ("proc__irq__25__effective_affinity", "8", "interrupt affinity", "1 of 2", "irqbalance"),
        ("sys__devices__system__clocksource__clocksource0__current_clocksource", "hpet", "clock source", "hpet", "tsc"),
        ("sys__kernel__mm__transparent_hugepage__enabled", "always madvise [never]", "transparent huge pages", "never", "madvise"),
        ("sys__kernel__mm__transparent_hugepage__defrag", "[always] defer never", "huge page defragmentation", "always", "defer"),
        ("sys__devices__system__cpu__cpu0__cpuidle__state2__latency", "133", "idle states", "133 µs", "idle-set"),
        ("sys__devices__system__cpu__vulnerabilities__spectre_v2", "Mitigation: IBRS", "mitigations", "spectre_v2", "mitigations=off"),
        ("proc__swaps", "Filename\n/dev/sda2 partition 1 0 -2", "swap", "swappiness 60", "vm.swappiness"),
        ("proc__sys__kernel__numa_balancing", "1", "NUMA balancing", "on", "numa_balancing=0"),
        ("proc__self__limits", "Max locked memory 65536 65536 bytes", "lockable memory", "64 KiB", "memlock"),
        ("proc__self__timerslack_ns", "50000", "timer slack", "50 µs", ""),
        ("proc__mounts", "shm /dev/shm tmpfs rw,size=65536k 0 0", "shared memory", "64 MiB", "remount"),
        ("proc__stat", "cpu  100 0 100 1000 0 0 0 90 0 0", "steal time", "6.98 %", ""),
        ("proc__cpuinfo", "flags : fpu hypervisor", "virtualization", "virtual machine", ""),
        ("sys__class__net__eth0__queues__rx-1__rps_cpus", "f", "receive queues of eth0", "2, 1 steered", "combined 1"),
        ("sys__class__net__eth0__gro_flush_timeout", "20000", "packet gathering of eth0", "20000 ns", "gro off"),
    ],
)  # fmt: skip
def test_what_costs_latency_is_named_with_its_remedy(
    tmp_path: Path, file: str, text: str, name: str, says: str, mend: str
) -> None:
    findings = examine(machine(tmp_path, **{file: text}))
    (found,) = [each for each in findings if each.state is State.COSTS]
    assert found.name == name
    assert says in found.value
    assert mend in found.mend
    assert found.cost


def test_nothing_at_all_is_unknown_and_raises_nothing(tmp_path: Path) -> None:
    states = {each.name: each.state for each in examine(Machine(tmp_path))}
    assert states["frequency governor"] is State.UNKNOWN
    assert states["clock source"] is State.UNKNOWN
    assert states["interrupt affinity"] is State.UNKNOWN


def test_lists_and_masks_of_processors() -> None:
    assert cpu_list("0-2,8,x") == {0, 1, 2, 8}
    assert cpu_mask("1,00000003") == {0, 1, 32}
    assert cpu_text({0, 1, 2, 8}) == "0-2,8"
    assert cpu_text([]) == ""
    assert cpu_list("") == cpu_mask("?") == set()


def test_gaps_are_counted_by_length() -> None:
    finding = gap_finding(np.array([12_000, 40_000, 2_500_000]), 1.0)
    assert finding.state is State.COSTS
    assert "3 of 10 µs, 2 of 30 µs, 1 of 100 µs, 1 of 300 µs, 1 of 1 ms" in finding.value
    assert gap_finding(np.zeros(0, np.int64), 1.0).state is State.GOOD


def test_this_machine_can_be_measured(tmp_path: Path) -> None:
    assert (gaps(0.01) >= 10_000).all()
    assert "ms" in sync(tmp_path).value
    with pytest.raises(OSError):
        sync(tmp_path / "nowhere")


def test_the_command_prints_json() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from host.cli import main; main()", "doctor", "--json", "--no-measure"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert {"name", "value", "state", "cost", "mend"} == set(json.loads(run.stdout)["findings"][0])
