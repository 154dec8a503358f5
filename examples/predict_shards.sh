#!/bin/sh
# Predict many files on the cores of one machine, a process a core; started again, it goes on where it was stopped.
#
#   predict_shards.sh <folder of rows> <folder for the output> --model runs/topics --identify --precision bf16 ...
#
# What follows the two folders goes to `xmodular predict`. Each file gets a folder in the output, <file>.d, and a log,
# <file>.log. Finished files are skipped, the others continued. The exit status is 0 once every file is finished. In a
# job array, call it with a folder of that job's files. WORKERS sets the number of processes, SHARD_ROWS the rows in a
# part of the output (5,000).
set -eu
if [ "${1:-}" = --one ]; then
    input=$2 output=$3/$(basename "$2").d
    shift 3
    if grep -qs '"complete": true' "$output/predict.json"; then exit 0; fi
    if ${XMODULAR:-xmodular} predict --input "$input" --output "$output" "$@" 2>> "${output%.d}.log"; then exit 0; fi
    echo "not finished: $input, see ${output%.d}.log" >&2
    exit 1
fi
input=$1 output=$2
shift 2
mkdir -p "$output"
# A thread for each process: several in each would wait for each other.
export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1
find "$input" -maxdepth 1 -type f -print0 | sort -z |
    xargs -0 -P "${WORKERS:-$(nproc)}" -I '{}' sh "$0" --one '{}' "$output" --shard-rows "${SHARD_ROWS:-5000}" "$@"
