#!/usr/bin/env bash
# Exit codes and messages of the command line, as a user meets them.
set -u
temper=$1
dir=$TEST_TMPDIR
failures=0

# expect CODE STDERR_PATTERN ARGS...: the exit code, and a line on stderr
# ("" asks for none).
expect() {
  local code=$1 pattern=$2
  shift 2
  "$temper" "$@" >"$dir/out" 2>"$dir/err"
  local got=$?
  if [ "$got" != "$code" ] ||
      { [ -n "$pattern" ] && ! grep -qE -- "$pattern" "$dir/err"; }; then
    echo "FAILED: temper $*: exit $got, expected $code with \"$pattern\":"
    cat "$dir/err"
    failures=$((failures + 1))
  fi
}

# prints PATTERN: the last command's stdout has such a line.
prints() {
  if ! grep -qE -- "$1" "$dir/out"; then
    echo "FAILED: no \"$1\" on stdout:"
    cat "$dir/out"
    failures=$((failures + 1))
  fi
}

# prints_words PATTERN: the same, however its words are spaced and broken.
prints_words() {
  tr -s ' \n' ' ' <"$dir/out" >"$dir/words"
  grep -qE -- "$1" "$dir/words" || prints "$1"
}

unset TEMPER_ISA
: > "$dir/cli.err"
expect 2 'usage: temper VERB'
expect 0 '' --help
prints '^  config '
expect 2 'unknown verb confg; did you mean config\?' confg
expect 2 'unknown verb resolv; did you mean resolve\?' config resolv
# A library reads the flags: how it puts what is wrong is its own.
expect 2 '^temper config resolve: .*--bogus; .temper config resolve --help. lists' \
  config resolve --bogus
expect 2 '^temper config resolve: .*-s; .temper config resolve --help. lists' \
  config resolve -s

expect 0 '' generate --help
prints_words '--samples N Answers; default 1\. 1 to 256\.'
prints_words '--temperature X Default 1\. 0\.01 to 100\.'
expect 2 '^temper generate: .*--samples.* 0 .*1.*256.*; .temper generate --help' \
  generate m --prompt x --samples 0

set_ok=(--set model=m --set tasks=t --set steps=9)
expect 0 '' config resolve "${set_ok[@]}"
prints '^  group_size: 8$'
prints '^# name: the file.s name and the time of the start$'
prints '^# environments: those that the tasks use$'
cp "$dir/out" "$dir/run.textproto"
expect 0 '' config resolve "$dir/run.textproto" --seed 7
prints '^seed: 7$'
expect 2 'model is not set' config resolve
expect 2 'environments names foo: there is no environment "foo"' \
  config resolve "${set_ok[@]}" --set environments=foo
expect 2 'unknown key lr; here it is called learning_rate' \
  config resolve "${set_ok[@]}" --set lr=1
expect 2 'unknown key bf16; here it is called numerics' \
  config resolve "${set_ok[@]}" --set bf16=true
expect 2 'unknown key top_q; did you mean top_[pk]\?' \
  config resolve "${set_ok[@]}" --set top_q=1
expect 2 'top_p 1.5 is outside its limits' \
  config resolve "${set_ok[@]}" --set top_p=1.5
expect 2 'max_staleness 4 is not in this version; set it to 0' \
  config resolve "${set_ok[@]}" --set max_staleness=4
expect 0 '' config resolve "${set_ok[@]}" --set numerics=fp8
prints '^numerics: fp8$'
expect 0 '' config explain checkpoint_dtype
prints '^  limits   BF16 or F8_E4M3 or F32$'
echo 'objective { gruop_size: 4 }' > "$dir/bad.textproto"
expect 2 'bad.textproto:1:.*unknown key gruop_size; did you mean group_size\?' \
  config resolve "$dir/bad.textproto"
expect 2 'no_such_file.*; name a configuration file' \
  config resolve "$dir/no_such_file"

echo 'objective { group_size: "eight" }' > "$dir/bad.textproto"
expect 2 'bad.textproto:1:25: group_size: ' config resolve "$dir/bad.textproto"
expect 2 'is not a regular file; name a configuration file' config resolve "$dir"

# The configuration of sft is as closed.
for bad in 'sed: 1|bad.textproto:1:.*unknown key sed; did you mean seed\?' \
    'warmup_steps: 1|warmup_steps belongs in stage' \
    'model: "m" demonstrations: "d" output: "o" weight_decay: 11|weight_decay 11 is outside its limits 0 to 10; set it within'; do
  echo "${bad%%|*}" > "$dir/bad.textproto"
  expect 2 "${bad#*|}" sft "$dir/bad.textproto"
done

# What is not there is named, with what would do.
expect 2 'no/config.json.*; name a directory in the Hugging Face layout' \
  generate no --prompt x
expect 2 'no/config.json.*; name a directory in the Hugging Face layout' eval no
expect 2 'no/config.json.*; name a directory in the Hugging Face layout' \
  train --set model=no --set tasks=quickstart --steps 1
expect 2 'no/run.db.*; name a run directory' status no
expect 2 'no/config.textproto.*; name a run directory' learner --run-dir no
expect 2 'no/config.textproto.*; name a run directory' rollout --run-dir no
expect 2 'no.jsonl.*; name a tasks.jsonl' env test math --tasks no.jsonl
expect 2 'is not a regular file; name a tasks.jsonl' \
  env test math --tasks "$dir"
printf '\n{bad\n' > "$dir/bad.jsonl"
expect 2 'bad.jsonl:2: .*; a line is one Task of proto/task.proto' \
  env test math --tasks "$dir/bad.jsonl"
expect 2 'no run at /no/run/run.db; name a run directory' status /no/run
expect 2 'no run at /no/run; name a run directory' train --resume /no/run
expect 2 'cli.err is no run.db; name a run directory' status "$dir/cli.err"
expect 2 'list .*; name the directory' inspect runs --runs-dir "$dir/cli.err"
expect 2 'math has no self-test; name a tasks.jsonl' env test math
expect 2 'no environment "chess"; there are' env test chess --tasks no.jsonl

printf '{"title": "A", "text": "one two"}\n\n{"contents": "two"}\n' \
  > "$dir/c.jsonl"
expect 0 '' env index "$dir/c.jsonl" --output "$dir/c.index"
prints '/c.index: 2 passages, 3 words, 4 postings, 0\.0 MB; checksums right$'
prints '^built in .* s with at most .* MB of memory$'
expect 0 '' env index --check "$dir/c.index" --json
prints '"passages": 2'
cat > "$dir/mine.jsonl" <<END
{"id": "q", "environment": "search", "split": "train", "messages": [{"role": "user", "content": "One?"}], "payload_json": "{\"corpus\": \"$dir/c.index\", \"answer\": [\"two\", \"2\"]}"}
END
expect 0 '' env test search --tasks "$dir/mine.jsonl"
prints '^search: 1 tasks keep its promises$'
expect 2 'give CORPUS\.\. and --output INDEX, or --check' env index
expect 2 'give CORPUS\.\.' env index "$dir/c.jsonl" --check "$dir/c.index"
expect 2 'c.jsonl is the corpus itself; name another' \
  env index "$dir/c.jsonl" --output "$dir/c.jsonl"
expect 2 'no.jsonl: .*; name a .jsonl' \
  env index "$dir/no.jsonl" --output "$dir/d.index"
echo '{"text": 1}' >> "$dir/c.jsonl"
expect 2 'c.jsonl:4: needs a string "text"' \
  env index "$dir/c.jsonl" --output "$dir/d.index"
expect 2 'c.jsonl is no search index; make one' env index --check "$dir/c.jsonl"
head -c 200 "$dir/c.index" > "$dir/cut.index"
expect 2 'cut.index is truncated' env index --check "$dir/cut.index"
sed 's/two/too/' "$dir/c.index" > "$dir/bad.index"
expect 1 'bad.index is damaged .the checksum of its texts.' \
  env index --check "$dir/bad.index"
expect 2 'has no more than .* held-out tasks; ask for fewer' \
  env search-tasks --output "$dir/world" --heldout 9999
expect 0 '' env search-tasks --output "$dir/world" --train 12 --heldout 6
prints '/world/tasks.jsonl: 12 train and 6 held-out tasks$'
expect 0 '' env test search --tasks "$dir/world/tasks.jsonl" --count 18
prints '^search: 18 tasks keep its promises$'
mv "$dir/world/corpus.index" "$dir/world/moved.index"
expect 2 'tasks.jsonl:1: .*payload_json.corpus is not there: .*corpus.index' \
  env test search --tasks "$dir/world/tasks.jsonl"
expect 2 'list no: .*; name the directory' inspect runs --runs-dir no
# A damaged run hides no other: these two have lost their tables.
for run in a b; do
  mkdir -p "$dir/damaged/$run"
  python3 -c 'import sqlite3, sys
sqlite3.connect(sys.argv[1]).executescript(
    "CREATE TABLE x(y); PRAGMA application_id=0x544d5052;"
    "PRAGMA user_version=3")' \
    "$dir/damaged/$run/run.db"
done
expect 0 '^a: .' inspect runs --runs-dir "$dir/damaged"
expect 0 '^b: .' inspect runs --runs-dir "$dir/damaged"
# A flag that would have no effect is none.
expect 2 '^temper eval: .*--runs-dir' eval no --runs-dir runs
expect 0 '' config explain kl_coef
prints 'default  0.001'
expect 2 'called group_size' config explain num_generations
expect 0 '' bench search --passages 300
prints '^300 passages, .* words, .* postings; index .* FTS5 in .* s$'
prints ' queries/s, FTS5 .* times as many, .* (0\.[6-9].|1\.00) of the hits are'
expect 0 '' bench search --passages 300 --json
prints '"times_fts5": [0-9]'
TMPDIR=/nowhere expect 1 'no directory for temporary files.*set TMPDIR' bench search --passages 300

# Tiers there are not are refused whatever the verb.
for tier in sse2 AVX2; do
  TEMPER_ISA=$tier expect 2 "TEMPER_ISA=$tier: .*can run scalar" config explain
done
TEMPER_ISA=scalar expect 0 '' config explain

TEMPER_ISA=cuda expect 0 '' config explain device
prints 'default  auto'

# The doctor starts what a run starts, and names what the kernel denies.
expect 0 '' doctor
prints '^sandbox +ok +bubblewrap, seccomp, .*cgroup.*, [0-9]+ slots? of [0-9]+ processes'
prints '^cpu +ok +.* cores; computes in fp32, bf16, fp8$'
prints '^gpu +ok +.*(none is computed on: |the first is computed on)'
denied='echo 0 >/proc/sys/user/max_user_namespaces && "$0" doctor >"$1"'
if unshare --user --map-root-user true 2>/dev/null; then
  unshare --user --map-root-user sh -c "$denied" "$temper" "$dir/out"
  [ $? = 1 ] || { echo "FAILED: doctor did not exit 1"; failures=1; }
  prints '^sandbox +MISSING .*the kernel denies user namespaces: as root, sysctl'
fi

expect 0 '' --version
prints '^temper sha256:[0-9a-f]{12}$'

# Too few descriptors for its own are the machine's lack, and no crash. Not with
# UBSan, which itself asks by a pipe whether an object is one.
grep -q __ubsan_handle "$temper" ||
 (ulimit -n 4 && expect 1 'a pipe: .*`ulimit -n`' sft "$dir/cli.err"
  exit $failures) || failures=1
(ulimit -n 99 && expect 1 '' doctor
 prints '^files +MISSING 99 open files .*`ulimit -n 1024`'
 exit $failures) || failures=1

[ "$failures" = 0 ] || { echo "$failures failed"; exit 1; }
