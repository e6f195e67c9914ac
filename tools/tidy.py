#!/usr/bin/env python3
"""Checks the house rules that a program can check, over the whole checkout.

    tools/tidy.py [ROOT]       prints a line a breach, exit status 1 if any

Sources are at most 500 lines, headers 250, functions 70. Every header opens
with what it is. Includes are quoted, but for those of the language and the
system. Only proto/wire/loopback_channel.cc makes a channel of gRPC's, which
others would lead through a proxy. No comment or document cites a file that is
not there. No work is left marked for later, in scripts, BUILD files and
settings as little as in sources.
A function or type that a header declares is used by more than tests (one of a
common name may escape; constants and fields are not looked at). Prose keeps to
120 columns, tables and what is drawn aside; DESIGN.md, README.md and
CHANGELOG.md say nothing twice. Sources are as clang-format 14 has them (named
as skipped where another or none is installed), and at least 5 % of their lines
say why.
"""

import os
import re
import subprocess
import sys

SOURCE_LINES_MAX = 500
HEADER_LINES_MAX = 250
FUNCTION_LINES_MAX = 70
PROSE_COLUMNS_MAX = 120
# In these no run of so many words may stand twice.
DOCUMENTS = ('DESIGN.md', 'README.md', 'CHANGELOG.md')
REPEATED_WORDS = 14
COMMENT_SHARE_MIN = 0.05
FORMATTER_VERSION = '14'
CODE = ('.h', '.cc', '.inc', '.cu', '.cuh')
TEXT = CODE + ('.py', '.sh', '.proto', '.bzl', '.md', '.textproto')
# Text too, whatever the ending: BUILD, WORKSPACE, .bazelrc, .ci/run.
UNENDED = re.compile(r'^(\.[^/]*|[^.]+)$')
# Not followed, for they are made by the build or hold data.
SKIPPED_FOLDERS = ('.git', 'runs', '__pycache__', 'quickstart_model')
# Directories of headers that are the system's although they have a slash.
SYSTEM_FOLDERS = ('sys', 'linux', 'net', 'netinet', 'arpa', 'asm', 'bits',
                  'sanitizer')
# Headers without a directory that are a library's.
LIBRARY_HEADERS = ('zmq.h', 'zmq.hpp', 'sqlite3.h', 'seccomp.h', 'pcre2.h')
# Said in pieces, so that this file does not hold what it looks for.
LATER = re.compile(r'\b(TO' + r'DO|FIX' + r'ME|X' + r'XX)\b')
# Files that are spoken of and lie elsewhere: a run's, a model's, a system's.
FOREIGN_FILES = re.compile(
    r'^(config|tokenizer|manifest|tokenizer_config|generation_config|'
    r'model\.safetensors\.index)\.json$|^tasks\.jsonl$|^model\.py$|'
    r'^config\.textproto$|^inference/model\.py$|^/|^(pre|post)_\w+\.py$')


class Checkout:
  """The files of a checkout, by path from its root."""

  def __init__(self, root):
    self.root = root
    self.paths = []
    for folder, folders, names in os.walk(root):
      folders[:] = sorted(
          f for f in folders
          if f == '.ci' or (f not in SKIPPED_FOLDERS and
                            not f.startswith(('bazel-', '.'))))
      for name in sorted(names):
        path = os.path.relpath(os.path.join(folder, name), root)
        if not os.path.islink(os.path.join(root, path)):
          self.paths.append(path)
    self.text = {}
    for path in self.paths:
      if path.endswith(TEXT) or UNENDED.match(os.path.basename(path)):
        with open(os.path.join(root, path), encoding='utf-8') as file:
          self.text[path] = file.read()

  def code(self, *endings):
    return [p for p in self.paths if p.endswith(endings or CODE)]


def sizes(checkout):
  for path in checkout.code():
    lines = checkout.text[path].count('\n')
    limit = HEADER_LINES_MAX if path.endswith('.h') else SOURCE_LINES_MAX
    if lines > limit:
      yield f'{path}: {lines} lines; at most {limit}'


# Comments, texts and characters; directives over all their lines.
COMMENT_OR_TEXT = (r'R"([^(\s]*)\(.*?\)\1"|"(?:[^"\\\n]|\\.)*"|//[^\n]*|'
                   r"/\*.*?\*/|(?<!\w)'(?:[^'\\\n]|\\.)+'")
DIRECTIVE = r'|^[ ]*\#(?:[^\n]|(?<=\\)\n)*'


def blanked(text, what=COMMENT_OR_TEXT):
  """Code without what only looks like code; every line stays where it is."""
  return re.sub(what, lambda found: re.sub(r'[^\n]', ' ', found.group()), text,
                flags=re.S | re.M)


def functions_of(text):
  """(first line of the signature, lines up to the closing brace) of functions,
  of classes' own too; a lambda is part of what it stands in."""
  text = blanked(text, COMMENT_OR_TEXT + DIRECTIVE)
  rooms = re.compile(r'(?:namespace|class|struct|union|enum|extern)\b')
  before = re.compile(r'(?:\s|(?:public|private|protected):)*'
                      r'(?:template\s*<[^;{]*?>\s*(?=\w))*')
  # Of each open brace whether it is a room, in which functions stand, and where
  # its statement begins.
  opened, parens, begin = [], 0, 0
  for match in re.finditer(r'[(){};]', text):
    mark, at = match.group(), match.start()
    outside = all(room for room, _ in opened)
    if mark in '()' and outside:
      parens += 1 if mark == '(' else -1
    elif mark == '{':
      head = text[begin:at]
      word = before.match(head).end()
      room = (outside and parens == 0 and not head.rstrip().endswith(')') and
              rooms.match(head, word) is not None)
      opened.append((room, begin))
    elif mark == '}' and opened:
      room, first = opened.pop()
      if not all(other for other, _ in opened) or parens:
        continue
      # One of the braces of a constructor's list of members: the body follows.
      if not room and re.match(r'\s*[,{]', text[at + 1:at + 80]):
        continue
      begin = at + 1
      opening = text[first:at].split('{')[0]
      # What a semicolon follows is a table.
      table = re.match(r'\s*;', text[begin:begin + 80])
      if room or table or '(' not in opening:
        continue
      first += before.match(text[first:at]).end()
      start = text.count('\n', 0, first) + 1
      yield start, text.count('\n', 0, at) + 2 - start
    if mark == ';' and parens == 0 and outside or mark == '{' and room:
      begin = at + 1


def functions(checkout):
  for path in checkout.code():
    for start, length in functions_of(checkout.text[path]):
      if length > FUNCTION_LINES_MAX:
        yield (f'{path}:{start}: a function of {length} lines; at most '
               f'{FUNCTION_LINES_MAX}')


def openings(checkout):
  for path in checkout.code('.h'):
    if not checkout.text[path].startswith('// '):
      yield f'{path}:1: does not open with what it is'


def includes(checkout):
  pattern = re.compile(r'^#include ([<"])([^>"]+)[>"]', re.M)
  for path in checkout.code():
    for match in pattern.finditer(checkout.text[path]):
      mark, name = match.groups()
      folder = name.split('/')[0] if '/' in name else ''
      library = (name in LIBRARY_HEADERS or
                 (folder != '' and folder not in SYSTEM_FOLDERS))
      if library and mark == '<':
        yield f'{path}: #include <{name}> is a library\'s: quote it'
      if not library and mark == '"' and folder == '':
        yield f'{path}: #include "{name}" is the system\'s: <{name}>'


def channels(checkout):
  """A channel that another file makes follows http_proxy, even to 127.0.0.1."""
  for path in checkout.code():
    made = re.search(r'\bgrpc::Create\w*Channel\b', blanked(checkout.text[path]))
    if made and path != 'proto/wire/loopback_channel.cc':
      yield f'{path}: {made.group()}: use NewLoopbackChannel'


def device_code(checkout):
  """nvcc reads a .cu file, and what it includes, without our libraries; PTX
  stands in one place, ptx*.h, beside which the emulator has its own."""
  pattern = re.compile(r'^#include "([^"]+)"', re.M)
  ptx = re.compile(r'\basm\b[\w\s]*\(')
  kernels = [path for path in checkout.code('.cu')]
  seen = set(kernels)
  for path in kernels:  # grows
    if (not os.path.basename(path).startswith('ptx')
        and ptx.search(checkout.text[path])):
      yield f'{path}: asm, which stands in kernels/cuda/simt/ptx*.h alone'
    for name in pattern.findall(checkout.text[path]):
      if name.startswith(('absl/', 'google/')) or name.endswith('.pb.h'):
        yield f'{path}: #include "{name}" is nothing that nvcc may read'
      elif name in checkout.text and name not in seen:
        seen.add(name)
        kernels.append(name)


def comments_of(path, text):
  """(line number, text) of each line that a reader reads as prose."""
  for number, line in enumerate(text.split('\n'), 1):
    if path.endswith('.md'):
      yield number, line
    elif path.endswith(CODE + ('.proto',)):
      at = line.find('//')
      if at >= 0 and '"' not in line[:at]:
        yield number, line[at:]
    elif path.endswith(('.py', '.sh', '.bzl', '.textproto')):
      at = line.find('#')
      if at >= 0 and not re.search(r'["\'$]', line[:at]):
        yield number, line[at:]


def citations(checkout):
  known = set(checkout.paths)
  names = {os.path.basename(p) for p in known}
  stems = {os.path.splitext(p)[0] for p in known}
  cited = re.compile(r'(?<![\w./<*-])((?:[\w-]+/)*[\w-]+\.'
                     r'(?:h|cc|md|py|sh|proto|cu|bzl|inc|textproto))\b(?![\w(/])')
  for path, text in checkout.text.items():
    for number, line in comments_of(path, text):
      for name in cited.findall(line):
        if FOREIGN_FILES.search(name) or '://' in line:
          continue
        beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
        if name in known or beside in known:
          continue
        if '/' not in name and name in names:
          continue
        if '/' in name and any(p.endswith('/' + name) for p in known):
          continue
        if os.path.splitext(name)[0] + '.pb' in stems:
          continue
        yield f'{path}:{number}: cites {name}, which is not there'


def later(checkout):
  for path, text in checkout.text.items():
    for number, line in enumerate(text.split('\n'), 1):
      if LATER.search(line):
        yield f'{path}:{number}: work marked for later; file an issue'


def of_tests(path):
  return (path.startswith(('tests/', 'kernels/reference/',
                           'kernels/cuda/simt/')) or
          '/testing/' in path or
          re.search(r'(_test|_cases|_fixture|_oracle|_benchmark|_golden|'
                    r'test_model|test_main|memory_attack|golden)\b',
                    path) is not None)


def dead_symbols(checkout):
  """Functions and types that a header declares and that only tests name."""
  texts = {p: blanked(checkout.text[p]) for p in checkout.code()}
  uses = {}
  for path, text in texts.items():
    if of_tests(path):
      continue
    for word in re.findall(r'\b[A-Za-z_]\w+\b', text):
      uses.setdefault(word, {}).setdefault(path, 0)
      uses[word][path] += 1
  declared = re.compile(
      r'^ {0,2}(?=\w)(?!return\b)'
      r'(?:virtual |static |inline |constexpr |explicit |const )*'
      r'[\w:<>,&* ]+?[&* ]([A-Za-z]\w+)\(|^(?:class|struct|enum class) (\w+)\b',
      re.M)
  for path in checkout.code('.h'):
    if of_tests(path):
      continue
    source = path[:-2] + '.cc'
    # What stands in for the world is there for tests.
    text = re.sub(r'^class Fake\w+.*?^};', '', texts[path], flags=re.M | re.S)
    for match in declared.finditer(text):
      name = match.group(1) or match.group(2)
      if name.isupper():  # an attribute's macro, not what is declared
        continue
      # Called through its base, which may be a library's.
      if re.match(r'[^;{]*\boverride\b', texts[path][match.end():]):
        continue
      elsewhere = sum(n for p, n in uses[name].items()
                      if p not in (path, source))
      here = uses[name].get(path, 0)
      defined = len(re.findall(r'(?:^|[\s&*:])' + name + r'\([^;{]*?\)[^;{}]*\{',
                               texts.get(source, '')))
      in_source = uses[name].get(source, 0) - defined
      if elsewhere == 0 and here <= 1 and in_source <= 0:
        yield f'{path}: {name} is declared and nowhere used'


def prose(checkout):
  for path in checkout.code('.md'):
    # Indented by four is drawn after a blank line, but in a list it is text.
    fenced = drawn = listed = False
    blank = True
    for number, line in enumerate(checkout.text[path].split('\n'), 1):
      if line.startswith('```'):
        fenced = not fenced
      indented = line.startswith('    ')
      drawn = indented and not listed and (blank or drawn)
      if line and not line.startswith(' '):
        listed = re.match(r'[-*] |\d+\. |P\d+\. ', line) is not None
      blank = line == ''
      if (not fenced and not drawn and not line.startswith('|') and
          len(line) > PROSE_COLUMNS_MAX):
        yield (f'{path}:{number}: {len(line)} columns of prose; at most '
               f'{PROSE_COLUMNS_MAX}')


def repeats(checkout):
  """Words that stand twice in a row of lines, however they are broken: what a
  merge leaves that took both sides."""
  for path in DOCUMENTS:
    words = [(word, number) for number, line
             in enumerate(checkout.text.get(path, '').split('\n'), 1)
             for word in line.split()]
    seen, last = {}, -REPEATED_WORDS
    for at in range(len(words) - REPEATED_WORDS + 1):
      run = tuple(word for word, _ in words[at:at + REPEATED_WORDS])
      if seen.setdefault(run, at) != at and at - last > 1:
        yield (f'{path}:{words[at][1]}: says again what stands in line '
               f'{words[seen[run]][1]}')
      last = at if seen[run] != at else last


def comment_share(checkout):
  """Share of the sources' lines (tests aside) that are comments."""
  lines = comments = 0
  for path in checkout.code('.cc', '.inc'):
    if of_tests(path):
      continue
    for line in checkout.text[path].split('\n'):
      if line.strip():
        lines += 1
        comments += line.lstrip().startswith('//')
  return comments / max(1, lines)


def comment_breach(checkout):
  share = comment_share(checkout)
  if share < COMMENT_SHARE_MIN:
    yield (f'{100 * share:.1f} % of the sources\' lines say why; at least '
           f'{100 * COMMENT_SHARE_MIN:.0f} %')


def formatter():
  """What to run, or None and why not."""
  try:
    said = subprocess.run(['clang-format', '--version'], capture_output=True,
                          text=True, check=True).stdout
  except (OSError, subprocess.CalledProcessError):
    return None, 'clang-format is not installed'
  version = re.search(r'version (\d+)', said)
  if version is None or version.group(1) != FORMATTER_VERSION:
    return None, (f'clang-format {version.group(1) if version else "?"} lays '
                  f'lines out otherwise than {FORMATTER_VERSION}')
  return 'clang-format', ''


def formatting(checkout):
  command, why = formatter()
  if command is None:
    print(f'skipped: formatting ({why})', file=sys.stderr)
    return
  done = subprocess.run(
      [command, '--dry-run', '--style=file'] + checkout.code(),
      capture_output=True, text=True, cwd=checkout.root)
  for path in sorted(set(re.findall(r'^([^:\n]+):\d+:\d+: warning', done.stderr,
                                    re.M))):
    yield f'{path}: not as clang-format has it: clang-format -i {path}'


CHECKS = (sizes, functions, openings, includes, channels, device_code,
          citations, later, dead_symbols, prose, repeats, comment_breach,
          formatting)


def main(argv):
  root = argv[1] if len(argv) > 1 else os.path.join(os.path.dirname(__file__),
                                                    '..')
  checkout = Checkout(os.path.abspath(root))
  breaches = [line for check in CHECKS for line in check(checkout)]
  for line in breaches:
    print(line)
  print(f'{len(checkout.paths)} files, {len(breaches)} breaches; '
        f'{100 * comment_share(checkout):.1f} % of the sources\' lines say why',
        file=sys.stderr)
  return 1 if breaches else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
