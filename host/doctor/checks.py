"""What is looked at: one function for each thing, from the processors to the network."""

from collections.abc import Callable, Iterator

from host.doctor.finding import Finding, Machine, State, cpu_list, cpu_mask, cpu_text

CPU = "sys/devices/system/cpu"
HUGE = "sys/kernel/mm/transparent_hugepage"

DEEP_STATE_US = 10
"""An idle state that takes longer to leave (µs) is felt by whoever waits for a wake-up."""

LOCKED_BYTES = 64 << 20
"""Memory that may be locked: less than the rings and states of a small gateway."""

SHARED_BYTES = 1 << 30
"""Room in /dev/shm that rings may take."""

TIMER_SLACK_NS = 1_000
"""Linux gives ordinary threads 50 µs of slack."""

STEAL_SHARE = 0.005
"""Share of time that other machines took of this one, from which on it is felt."""


def examine(machine: Machine) -> list[Finding]:
    """Look at everything, in the order of the checks. Nothing is changed."""
    return [finding for check in CHECKS for finding in check(machine)]


def _good(name: str, value: object) -> Finding:
    return Finding(name, str(value), State.GOOD)


def _costs(name: str, value: object, cost: str, mend: str = "") -> Finding:
    return Finding(name, str(value), State.COSTS, cost, mend)


def _unknown(name: str, cost: str = "") -> Finding:
    return Finding(name, "not to be seen here", State.UNKNOWN, cost)


def virtualization(machine: Machine) -> Iterator[Finding]:
    """Whether this is a virtual machine, and how much time its host has taken away."""
    name = "virtualization"
    text = machine.read("proc/cpuinfo")
    if text is None:
        yield _unknown(name)
    elif any("hypervisor" in line.split() for line in text.splitlines() if line.startswith("flags")):
        product = machine.read("sys/class/dmi/id/product_name")
        yield _costs(
            name,
            f"a virtual machine{f' ({product})' if product else ''}",
            "its host stops it when it likes, and interrupts pass through it; latencies have tails that nothing here mends",
        )
    else:
        yield _good(name, "none")
    stat = machine.read("proc/stat")
    fields = stat.splitlines()[0].split() if stat else []
    if len(fields) < 9 or fields[0] != "cpu":
        yield _unknown("steal time")
        return
    ticks = [int(field) for field in fields[1:]]
    share = ticks[7] / max(sum(ticks[:8]), 1)
    value = f"{100 * share:.2f} % since it was started"
    if share < STEAL_SHARE:
        yield _good("steal time", value)
    else:
        yield _costs("steal time", value, "the machine was ready to run and its host gave the processor to another")


def governor(machine: Machine) -> Iterator[Finding]:
    """How processors choose their clock (cpufreq)."""
    name = "frequency governor"
    found = {
        value
        for number in machine.processors()
        if (value := machine.read(f"{CPU}/cpu{number}/cpufreq/scaling_governor")) is not None
    }
    if not found:
        yield _unknown(name, "a slow clock after idle times costs up to some hundred µs")
    elif found == {"performance"}:
        yield _good(name, "performance")
    else:
        yield _costs(
            name,
            ", ".join(sorted(found)),
            "the clock is slow when traffic comes after a pause, for up to some hundred µs",
            "cpupower frequency-set -g performance",
        )


def idle_states(machine: Machine) -> Iterator[Finding]:
    """How deep a processor sleeps when it has nothing to do (C-states)."""
    name = "idle states"
    states = machine.names(f"{CPU}/cpu0/cpuidle", "state*")
    if not states:
        yield _unknown(name, "leaving a deep one takes up to some hundred µs")
        return
    deepest = 0
    for state in states:
        if machine.number(f"{CPU}/cpu0/cpuidle/{state}/disable") != 1:
            deepest = max(deepest, machine.number(f"{CPU}/cpu0/cpuidle/{state}/latency") or 0)
    value = f"the deepest takes {deepest} µs to leave"
    if deepest <= DEEP_STATE_US:
        yield _good(name, value)
    else:
        yield _costs(
            name,
            value,
            f"a thread that sleeps is woken up to {deepest} µs later; busy polling never sleeps",
            f"cpupower idle-set -D {DEEP_STATE_US}",
        )


def smt(machine: Machine) -> Iterator[Finding]:
    """Whether two processors share one core."""
    name = "SMT"
    active = machine.number(f"{CPU}/smt/active")
    if active is None:
        yield _unknown(name, "two busy threads on one core take turns at its units")
    elif active == 0:
        yield _good(name, "off")
    else:
        siblings = machine.read(f"{CPU}/cpu0/topology/thread_siblings_list") or "?"
        yield _costs(
            name,
            f"on (processors {siblings} are one core)",
            "what runs on the sibling slows a busy loop to about half",
            "echo off > /sys/devices/system/cpu/smt/control",
        )


def isolation(machine: Machine) -> Iterator[Finding]:
    """Processors that the scheduler and the kernel's own work keep away from."""
    processors = machine.processors()
    last = cpu_text(processors[1:]) if len(processors) > 1 else ""
    boot = f"add isolcpus={last} nohz_full={last} rcu_nocbs={last} to the kernel's command line (GRUB_CMDLINE_LINUX), update-grub, reboot"
    for name, path, cost in (
        ("isolated processors", f"{CPU}/isolated", "any process may be put onto a busy loop's processor, for milliseconds"),
        ("ticks on busy processors", f"{CPU}/nohz_full", "the timer interrupts a busy loop 100 to 1000 times a second, 1 to 5 µs each"),
    ):  # fmt: skip
        text = machine.read(path)
        if text is None:
            yield _unknown(name, cost)
        elif cpu_list(text):
            yield _good(name, f"{'isolated' if 'isol' in name else 'none on'} {text}")
        elif len(processors) < 2:
            yield _costs(name, "none", cost + "; with one processor there is none to keep free")
        else:
            yield _costs(name, "none isolated" if "isol" in name else "on all", cost, boot)


def interrupts(machine: Machine) -> Iterator[Finding]:
    """Which processors serve devices' interrupts."""
    name = "interrupt affinity"
    processors = set(machine.processors())
    isolated = cpu_list(machine.read(f"{CPU}/isolated") or "")
    served: dict[str, set[int]] = {}
    for number in machine.names("proc/irq"):
        text = machine.read(f"proc/irq/{number}/effective_affinity") or machine.read(f"proc/irq/{number}/smp_affinity")
        if number.isdigit() and text:
            served[number] = cpu_mask(text)
    if not served or not processors:
        yield _unknown(name, "an interrupt stops a busy loop for 2 to 20 µs")
        return
    quiet = isolated or (processors - {min(processors)})
    on_quiet = [number for number, cpus in served.items() if cpus & quiet]
    value = (
        f"{len(on_quiet)} of {len(served)} interrupts on processors {cpu_text(quiet)}"
        if quiet
        else "one processor serves all"
    )
    if quiet and not on_quiet:
        yield _good(name, value)
    else:
        yield _costs(
            name,
            value,
            "an interrupt stops a busy loop for 2 to 20 µs",
            "systemctl stop irqbalance; for i in /proc/irq/*/smp_affinity; do echo 1 > $i; done" if quiet else "",
        )


def clock_source(machine: Machine) -> Iterator[Finding]:
    """What tells the time."""
    name = "clock source"
    where = "sys/devices/system/clocksource/clocksource0"
    current = machine.read(f"{where}/current_clocksource")
    available = (machine.read(f"{where}/available_clocksource") or "").split()
    if current is None:
        yield _unknown(name)
    elif current == "tsc" or current == "arch_sys_counter":
        yield _good(name, current)
    else:
        yield _costs(
            name,
            current,
            "every look at the clock costs 0.3 to 2 µs instead of 0.02",
            f"echo tsc > /{where}/current_clocksource"
            if "tsc" in available
            else "add tsc=reliable to the kernel's command line",
        )


def huge_pages(machine: Machine) -> Iterator[Finding]:
    """Whether rings and tables can lie in pages of 2 MiB."""
    for name, path, wanted, mend in (
        ("transparent huge pages", f"{HUGE}/enabled", ("always", "madvise"), "madvise"),
        (
            "huge pages in shared memory",
            f"{HUGE}/shmem_enabled",
            ("always", "advise", "within_size", "force"),
            "advise",
        ),
    ):
        chosen = machine.chosen(path)
        if chosen is None:
            yield _unknown(name, "a table of some GB in 4 KiB pages costs a walk of page tables for most look-ups")
        elif chosen in wanted:
            yield _good(name, chosen)
        else:
            yield _costs(
                name,
                chosen,
                "a table of some GB in 4 KiB pages costs a walk of page tables, 20 to 100 ns, for most look-ups",
                f"echo {mend} > /{path}",
            )
    reserved = machine.number("proc/sys/vm/nr_hugepages")
    if reserved is None:
        yield _unknown("reserved huge pages")
    elif reserved:
        yield _good("reserved huge pages", reserved)
    elif machine.chosen(f"{HUGE}/shmem_enabled") in (None, "never", "deny"):
        yield _costs(
            "reserved huge pages",
            0,
            "rings of PCIe cards and rings at /dev/hugepages have small pages",
            "sysctl vm.nr_hugepages=512",
        )
    else:
        yield _good("reserved huge pages", "0, and none needed")
    defrag = machine.chosen(f"{HUGE}/defrag")
    if defrag == "always":
        yield _costs(
            "huge page defragmentation",
            defrag,
            "a first touch of memory may wait milliseconds until pages are moved together",
            f"echo defer+madvise > /{HUGE}/defrag",
        )
    elif defrag is not None:
        yield _good("huge page defragmentation", defrag)


def memory(machine: Machine) -> Iterator[Finding]:
    """Whether memory may go away from under the gateway: swap, limits, moves between NUMA nodes."""
    swaps = (machine.read("proc/swaps") or "").splitlines()[1:]
    swappiness = machine.number("proc/sys/vm/swappiness")
    if swappiness is None:
        yield _unknown("swap")
    elif not swaps or swappiness == 0:
        yield _good("swap", "none" if not swaps else "swappiness 0")
    else:
        yield _costs(
            "swap",
            f"swappiness {swappiness}",
            "a page that was swapped out costs milliseconds",
            "sysctl vm.swappiness=0",
        )
    balancing = machine.number("proc/sys/kernel/numa_balancing")
    if balancing:
        yield _costs(
            "NUMA balancing",
            "on",
            "pages are unmapped now and then to see who uses them, some µs each",
            "sysctl kernel.numa_balancing=0",
        )
    elif balancing is not None:
        yield _good("NUMA balancing", "off")
    limits = machine.read("proc/self/limits")
    line = next((each for each in (limits or "").splitlines() if each.startswith("Max locked memory")), None)
    if line is None:
        yield _unknown("lockable memory")
    else:
        soft = line.split()[3]
        if soft == "unlimited" or int(soft) >= LOCKED_BYTES:
            yield _good("lockable memory", soft if soft == "unlimited" else f"{int(soft) >> 20} MiB")
        else:
            yield _costs(
                "lockable memory",
                f"{int(soft) >> 10} KiB",
                "memory cannot be locked, so a page may have to be found again",
                "echo '* - memlock unlimited' > /etc/security/limits.d/tickgate.conf, and log in again",
            )


def shared_memory(machine: Machine) -> Iterator[Finding]:
    """Room for rings."""
    mounts = (machine.read("proc/mounts") or "").splitlines()
    shm = next((each.split() for each in mounts if each.split()[1:2] == ["/dev/shm"]), None)
    if shm is None:
        yield _costs(
            "shared memory", "/dev/shm is not mounted", "rings lie in files on a disk", "mount -t tmpfs tmpfs /dev/shm"
        )
        return
    size = next((each.removeprefix("size=") for each in shm[3].split(",") if each.startswith("size=")), None)
    total = machine.read("proc/meminfo") or ""
    kib = next((int(each.split()[1]) for each in total.splitlines() if each.startswith("MemTotal")), 0)
    length = _size(size) if size else kib << 9
    if length >= SHARED_BYTES:
        yield _good("shared memory", f"{length >> 20} MiB at /dev/shm")
    else:
        yield _costs(
            "shared memory",
            f"{length >> 20} MiB at /dev/shm",
            "rings may not fit (64 MiB in containers)",
            "mount -o remount,size=4G /dev/shm",
        )


def _size(text: str) -> int:
    units = {"k": 10, "m": 20, "g": 30}
    return int(text[:-1]) << units[text[-1].lower()] if text[-1].lower() in units else int(text)


def timers(machine: Machine) -> Iterator[Finding]:
    """How late a timer may wake a thread that sleeps."""
    slack = machine.number("proc/self/timerslack_ns")
    if slack is None:
        yield _unknown("timer slack")
    elif slack <= TIMER_SLACK_NS:
        yield _good("timer slack", f"{slack} ns")
    else:
        yield _costs(
            "timer slack",
            f"{slack / 1000:g} µs",
            "a thread that sleeps is woken so much later; `tickgate serve` sets 1 µs for its own",
        )
    throttle = machine.number("proc/sys/kernel/sched_rt_runtime_us")
    if throttle is not None and throttle >= 0:
        yield Finding(
            "real-time throttling",
            f"{throttle} µs of {machine.number('proc/sys/kernel/sched_rt_period_us') or 1_000_000}",
            State.GOOD,
            "only threads with a real-time priority are stopped by it, which `tickgate serve` does not use",
        )


def mitigations(machine: Machine) -> Iterator[Finding]:
    """What guards against attacks on the processor cost at every system call."""
    name = "mitigations"
    where = f"{CPU}/vulnerabilities"
    active = [each for each in machine.names(where) if (machine.read(f"{where}/{each}") or "").startswith("Mitigation")]
    if not machine.names(where):
        yield _unknown(name)
    elif not active:
        yield _good(name, "none in force")
    else:
        yield _costs(
            name,
            f"{len(active)} in force ({', '.join(active)})",
            "each system call costs 0.1 to 1 µs more; the polling loop makes none, the journal two a batch",
            "add mitigations=off to the kernel's command line, on machines that run nothing foreign only",
        )


def network(machine: Machine) -> Iterator[Finding]:
    """Queues of network interfaces that have a device behind them."""
    real = [each for each in machine.names("sys/class/net") if (machine.root / f"sys/class/net/{each}/device").exists()]
    if not real:
        yield Finding("network interfaces", "none with a device", State.UNKNOWN)
    for interface in real:
        queues = machine.names(f"sys/class/net/{interface}/queues", "rx-*")
        steered = [
            each
            for each in queues
            if cpu_mask(machine.read(f"sys/class/net/{interface}/queues/{each}/rps_cpus") or "0")
        ]
        name = f"receive queues of {interface}"
        if len(queues) == 1:
            yield _good(name, "1")
        else:
            yield _costs(
                name,
                f"{len(queues)}{f', {len(steered)} steered to other processors' if steered else ''}",
                "one card's packets may be served by several processors, one of them a busy loop's",
                f"ethtool -L {interface} combined 1",
            )
        flush = machine.number(f"sys/class/net/{interface}/gro_flush_timeout")
        if flush:
            yield _costs(
                f"packet gathering of {interface}",
                f"{flush} ns",
                "packets wait so long to be joined",
                f"ethtool -K {interface} gro off; ethtool -C {interface} adaptive-rx off rx-usecs 0",
            )
        else:
            yield Finding(
                f"interrupt coalescing of {interface}",
                "only ethtool shows it",
                State.UNKNOWN,
                "an interrupt that is held back costs up to some 100 µs",
                f"ethtool -C {interface} adaptive-rx off rx-usecs 0",
            )


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    virtualization,
    governor,
    idle_states,
    smt,
    isolation,
    interrupts,
    clock_source,
    timers,
    huge_pages,
    memory,
    shared_memory,
    mitigations,
    network,
)
