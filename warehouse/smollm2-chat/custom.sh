#!/usr/bin/env bash
# A look at the device, last in its set-up: says what would make the assistant slow or keep it from starting. Changes nothing.
# build.sh sources this file, so it leaves the shell's options alone and never exits.

smollm2_need_mb=350
smollm2_port="${AGENT_PORT:-8000}"

smollm2_free_mb() {
    if [[ -r /proc/meminfo ]]; then
        awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo
    fi
}

smollm2_port_taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$smollm2_port") 2>/dev/null
}

smollm2_throttled() {
    [[ "$(vcgencmd get_throttled 2>/dev/null)" =~ ^throttled=0x.*[1-9a-f] ]]
}

smollm2_free="$(smollm2_free_mb)"
if [[ -n "$smollm2_free" && "$smollm2_free" -lt "$smollm2_need_mb" ]]; then
    printf 'warning: %s MB of memory are free; the assistant needs about %s MB\n' "$smollm2_free" "$smollm2_need_mb" >&2
fi
if smollm2_port_taken; then
    printf 'warning: port %s is taken; set AGENT_PORT to another before you start the agent\n' "$smollm2_port" >&2
fi
if smollm2_throttled; then
    printf 'warning: the board was slowed down by heat or a weak power supply since it started\n' >&2
fi
