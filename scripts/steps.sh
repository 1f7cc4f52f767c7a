# shellcheck shell=bash
# Named steps with a duration, a log and a verdict. Sourced by scripts/check and scripts/test, never run.
#
#   step NAME COMMAND…       runs COMMAND; a failure is kept for the summary, and the next step runs
#   must NAME COMMAND…       the same, but a failure ends the run: what follows cannot work without it
#   finish                   the summary; exits 1 if a step failed
#
# A step is a command that can be pasted into a shell at the root of the repository: that is how the
# summary says to run it alone.

if ((BASH_VERSINFO[0] < 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] < 4))); then
    echo "${0##*/}: needs bash 4.4 or later, this is $BASH_VERSION" >&2
    exit 2
fi

set -euo pipefail
shopt -s extglob

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# Absolute, because tests run in the folder of their crate. Read by the scripts that source this file.
target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$root/$target
logs=$target/steps/${0##*/}

# Pinned tools go before whatever else is installed under the same name.
export PATH="$target/tools/bin:$PATH"
# A registry that hiccups is no failed test.
export CARGO_NET_RETRY=${CARGO_NET_RETRY:-10}

# In CI nobody is there to interrupt a test that hangs: a step may take this many seconds.
limit=${STEP_LIMIT_SECONDS:-${CI:+3000}}

names=() verdicts=() seconds=() commands=()
passed=0 failed=0 skipped=0
running=

# Every step is a process group of its own, so that whatever it leaves behind ends with it.
set -m
trap 'end_step; exit 130' INT
trap 'end_step; exit 143' TERM HUP

end_step() {
    [[ -z $running ]] || kill -TERM -- "-$running" 2>/dev/null || true
}

need() {
    local tool
    for tool; do
        type -P "$tool" >/dev/null && continue
        echo "${0##*/}: '$tool' is not installed or not in PATH" >&2
        [[ $tool != cargo ]] || echo "Install Rust first: https://rustup.rs" >&2
        [[ $tool != wrk ]] || echo "Debian: apt-get install wrk" >&2
        exit 2
    done
}

step() {
    local name=$1 code=0 begun=$SECONDS number=$((${#names[@]} + 1)) log watch
    shift
    log=$logs/$number.log
    mkdir -p "$logs"
    : >"$log"
    printf '\n=== %s: %s\n' "$name" "$(quoted "$@")"

    # The log is written by the step itself, not through a pipe: a process that it leaves behind cannot
    # keep this script waiting.
    if [[ -n $limit ]]; then
        timeout --kill-after=10 "$limit" "$@" </dev/null >"$log" 2>&1 &
    else
        "$@" </dev/null >"$log" 2>&1 &
    fi
    running=$!
    tail -n +1 -f -s 0.2 --pid="$running" "$log" &
    watch=$!
    wait "$running" || code=$?
    end_step
    running=
    wait "$watch" || true

    count "$log"
    names+=("$name") commands+=("$(quoted "$@")") seconds+=($((SECONDS - begun)))
    if ((code == 0 && failed_here == 0)); then
        verdicts+=(ok)
        printf '=== %s: ok, %d s\n' "$name" "${seconds[-1]}"
        return
    fi
    if ((code == 124)) && [[ -n $limit ]]; then
        verdicts+=("FAILED: not done after $limit s")
    else
        verdicts+=("FAILED with exit code $code")
    fi
    # A step that fails without a failed test (it did not compile, say) counts as one.
    ((failed_here > 0)) || failed=$((failed + 1))
    printf '=== %s: %s, %d s\n' "$name" "${verdicts[-1]}" "${seconds[-1]}"
    return 0
}

must() {
    step "$@"
    [[ ${verdicts[-1]} == ok ]] || finish
}

# Adds up the closing lines of test runners: cargo test and libtest-mimic print the same.
count() {
    local line
    failed_here=0
    while IFS= read -r line; do
        line=${line//$'\e['*([0-9;])m/}
        [[ $line =~ ^test\ result:\ [a-zA-Z]+\.\ ([0-9]+)\ passed\;\ ([0-9]+)\ failed\;\ ([0-9]+)\ ignored ]] || continue
        passed=$((passed + BASH_REMATCH[1]))
        failed_here=$((failed_here + BASH_REMATCH[2]))
        skipped=$((skipped + BASH_REMATCH[3]))
    done < <(grep -a 'test result: ' "$1" || true)
    failed=$((failed + failed_here))
}

finish() {
    local i bad=0
    printf '\n=== summary of %s, %d s\n' "${0##*/}" "$SECONDS"
    for i in "${!names[@]}"; do
        printf '%6d s  %-32s %s\n' "${seconds[i]}" "${names[i]}" "${verdicts[i]}"
    done
    for i in "${!names[@]}"; do
        [[ ${verdicts[i]} != ok ]] || continue
        bad=1
        printf '\n%s failed. Run it alone:\n    %s\n' "${names[i]}" "${commands[i]}"
        grep -aE '^test .* \.\.\. (FAILED|failed)|^error(\[|:)' "$logs/$((i + 1)).log" | sort -u | head -n 20 | sed 's/^/    | /' || true
        # What each failed test said, as far as a summary has room for it.
        awk '/^---- .* ----$/ { left = 12 } left-- > 0' "$logs/$((i + 1)).log" | sed -n '1,100s/^/    | /p'
    done
    report
    exit "$bad"
}

# The closing line, or the numbers of it for .ci/run, which has more than one script to add up.
report() {
    if [[ -n ${STEPS_TOTALS-} ]]; then
        echo "$passed $failed $skipped" >>"$STEPS_TOTALS"
    else
        printf '\n'
        closing_line "$passed" "$failed" "$skipped"
    fi
}

closing_line() {
    local line="$1 passed, $2 failed"
    (($3 == 0)) || line+=", $3 skipped"
    echo "$line"
}

quoted() {
    local words
    printf -v words '%q ' "$@"
    echo "${words% }"
}
