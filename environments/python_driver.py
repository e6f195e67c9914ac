# Runs inside the sandbox (python_session.h), in two kinds of processes:
#
#   zygote   a Python that is ready before anybody wants it; forks, for each byte
#            of its stdin, the driver of a session to come
#   driver   the session: makes the rest of its walls around itself, waits for
#            its descriptors, gives up all else, and runs a candidate's code. It
#            is process 1 of its pid namespace: with it all others end, and to
#            signals of its own it is deaf unless it handles them.
#
# Both talk to the keeper (slot_keeper.h) over `keep`, a socket of datagrams on
# which the kernel tells who sent. Up: "r", a driver is ready; "!" and text, what
# failed. Down: one byte and two descriptors for each driver.
#
# A zygote must not tell sessions apart. It hears nothing of them, and leaves its
# memory from one fork to the next as it was: Python prints addresses, and the
# same code is to print the same in every session.


def _zygote(processes_max, tmp_bytes, tmp_files, filter):
    import _socket
    import ctypes
    import gc
    import posix

    # What each session would have to make for itself.
    import _ast  # noqa
    import random  # noqa
    import resource  # noqa

    libc = ctypes.CDLL(None, use_errno=True)
    keep = _socket.socket(fileno=4)
    code = ctypes.create_string_buffer(filter, len(filter))
    program = (ctypes.c_uint64 * 2)(len(filter) // 8, ctypes.addressof(code))
    no_capabilities = (
        (ctypes.c_uint32 * 2)(0x20080522, 0),
        (ctypes.c_uint32 * 6)(),
    )
    new_pid, new_mount = 0x20000000, 0x00020000

    def check(result, what):
        if result < 0:
            raise OSError(ctypes.get_errno(), what)
        return result

    def build_walls():
        # kill(0) would reach the zygote's process group, out of the namespace.
        posix.setsid()
        check(libc.unshare(new_mount), "unshare")
        # The inodes too: empty files cost memory that no rlimit counts.
        options = b"mode=0755,nr_inodes=%d,size=%d" % (tmp_files, tmp_bytes)
        check(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 6, options), "mount")
        posix.chdir("/tmp")
        check(libc.capset(*no_capabilities), "capset")
        check(libc.prctl(22, 2, program, 0, 0), "seccomp")

    def drive():
        libc.prctl(15, b"temper-driver", 0, 0, 0)
        build_walls()
        keep.send(b"r")
        data, ancillary, _, _ = keep.recvmsg(1, 64)
        if not data:
            posix._exit(0)
        fds = ancillary[0][2]
        posix.dup2(int.from_bytes(fds[:4], "little"), 0)
        posix.dup2(int.from_bytes(fds[4:8], "little"), 1)
        # Nothing that the keeper listens to goes with the candidate.
        posix.closerange(3, 1024)
        libc.prctl(15, b"python3", 0, 0, 0)
        _serve(processes_max, 2)

    try:
        libc.prctl(15, b"temper-zygote", 0, 0, 0)
        me = check(libc.syscall(434, posix.getpid(), 0), "pidfd_open")
        compile(compile("1", "", "exec", 0x400), "", "exec")
        gc.collect()
        # Each fork finds the one before ended and reaps it, the first this one:
        # until then the keeper sees how it ended.
        if posix.fork() == 0:
            posix._exit(0)
        while posix.read(0, 1):
            posix.waitpid(-1, 0)
            check(libc.unshare(new_pid), "unshare")
            if posix.fork() == 0:
                drive()
            check(libc.setns(me, new_pid), "setns")
    except BaseException as failed:
        keep.send(b"!" + ("%s: %s" % (failed.args[-1], failed)).encode()[:200])
    posix._exit(0)


# Reads requests from its stdin socket and answers when they ended. What they
# print goes to its stdout, a file that the other end reads. A candidate's code
# may run in this very process and can reach its socket: that gains nothing, for
# a reply carries text for the model to read, or what a candidate claims to have
# computed, never a verdict, and once the other end has it, it sees itself that
# nothing goes on (sandbox_freeze.h).
#
#   in   u8 kind, u64 seed, u32 size, then `size` bytes, which are
#          c  a cell: its source. Cells share one name space.
#          v  a call: parts prelude, source, expression. The first two run in a
#             name space of their own, in which the expression has a value.
#          x  a program: parts arguments, stdin, artifact, then of each entry of
#             a tree its kind (f file, x executable, d directory, l link) with
#             its path below /tmp, and its contents. Arguments end in NUL; the
#             artifact, unless empty, is the path of a file to send back.
#          r  a new Python in the place of this one: nothing is left of what
#             cells did but files. Its body is empty.
#        A part is u32 size and its bytes.
#   out  u8 status (0 ran, 1 raised), u32 size, then `size` bytes: of 1 what was
#        raised, of 0 nothing for a cell, for a call the value as Python writes
#        it (python_value.h), for a program the parts exit code, stderr (cut),
#        artifact, and how many blocks and files /tmp has room for.
#   The first out, status 2 and size 0, says that the session stands; that it
#   does again, status 0, is the answer to r.
def _serve(processes_max, standing):
    import _ast
    import _signal
    import builtins
    import posix
    import random
    import resource
    import sys

    # Before any candidate's code, who may give these names, or those of
    # builtins, to what they like.
    subclass, count, evaluate, failure = issubclass, len, eval, ValueError
    int_type, text_type, bytes_type = int, str, bytes
    list_type, tuple_type, dict_type = list, tuple, dict
    set_types = (set, frozenset)
    scalars = [(t, t.__repr__) for t in (int, float, str, bytes)]
    answer_bytes_max = {b"c": 0, b"v": 256 << 10, b"x": 4 << 20}
    # All but the call at its end.
    source = sys.orig_argv[-1].rpartition("\n_")[0]
    variables = dict(posix.environ)

    control = posix.dup(0)
    null = posix.open("/dev/null", posix.O_RDWR)
    posix.dup2(null, 0)
    posix.close(null)
    output = posix.dup(1)
    resource.setrlimit(resource.RLIMIT_NPROC, (processes_max, processes_max))
    stdout = sys.stderr = sys.stdout
    run, parse, describe_type, text_of = exec, compile, type, str
    getpid, leave, handle = posix.getpid, posix._exit, _signal.signal
    driver = getpid()
    space = {"__name__": "__main__", "__builtins__": builtins}
    sys.path = [path for path in sys.path if path]
    seeded = False
    running = []  # code of the request

    def restore_output():  # a cell may have closed it
        posix.dup2(output, 1)
        posix.dup2(output, 2)

    def end_children():
        try:
            posix.kill(-1, 9)  # all in this namespace but us and its init
        except OSError:
            pass
        try:
            while True:
                posix.waitpid(-1, 0)  # the dead count as processes until then
        except OSError:
            pass

    def read(size):
        pieces = []
        while size > 0:
            piece = posix.read(control, min(size, 1 << 20))
            if not piece:
                leave(0)
            pieces.append(piece)
            size -= count(piece)
        return bytes_type.join(b"", pieces)

    def part(data):
        return int_type.to_bytes(count(data), 4, "little") + data

    def parts_of(data):
        at, parts = 0, []
        while at < count(data):
            end = at + 4 + int_type.from_bytes(data[at : at + 4], "little")
            parts.append(data[at + 4 : end])
            at = end
        return parts

    def reply(status, data):
        data = bytes_type([status]) + part(data)
        while data:
            data = data[posix.write(control, data) :]

    # Whether `code` is of what is being run, and not of a cell before.
    def is_running(code):
        pending = list_type(running)
        while pending:
            one = pending.pop()
            if one is code:
                return True
            for constant in one.co_consts:
                if describe_type(constant) is describe_type(one):
                    pending.append(constant)
        return False

    def describe(error):
        line = error.lineno if isinstance(error, SyntaxError) else None
        earlier = None
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename == "<cell>":
                if is_running(code):
                    line, earlier = trace.tb_lineno, None
                else:
                    earlier = trace.tb_lineno
            trace = trace.tb_next
        syntax = isinstance(error, SyntaxError)
        message = error.msg if syntax else text_of(error)
        text = describe_type(error).__name__
        text += ": " + message if message else ""
        if line is not None:
            text += " (line %d" % line
            if earlier is not None:
                text += ", in line %d of an earlier cell" % earlier
            text += ")"
        return text

    # Compiles what is run next, beside what of it was compiled before.
    def compiled(source, mode):
        code = parse(source, "<cell>", mode)
        running.append(code)
        return code

    def run_cell(source):
        tree = parse(source, "<cell>", "exec", 0x400)  # to a syntax tree
        last = None
        if tree.body and isinstance(tree.body[-1], _ast.Expr):
            last = _ast.Expression(tree.body.pop().value)
        run(compiled(tree, "exec"), space)
        if last is not None:
            value = eval(compiled(last, "eval"), space)
            if value is not None:
                print(repr(value), file=stdout)
        return b""

    # A value of a subclass is written as the plain value that it is too, by the
    # plain type's own methods: what the subclass overrides is not asked.
    def literal(value, depth):
        kind = describe_type(value)
        if value is None or value is True or value is False:
            return "None" if value is None else "True" if value else "False"
        if depth > 64:
            raise failure("the result is nested too deeply")
        for plain, as_text in scalars:
            if subclass(kind, plain):
                return as_text(value)
        if subclass(kind, list_type):
            items = [literal(v, depth + 1) for v in list_type.__iter__(value)]
            return "[%s]" % ", ".join(items)
        if subclass(kind, tuple_type):
            items = [literal(v, depth + 1) for v in tuple_type.__iter__(value)]
            return "(%s%s)" % (", ".join(items), "," * (count(items) == 1))
        if subclass(kind, dict_type):
            items = [
                "%s: %s" % (literal(key, depth + 1), literal(v, depth + 1))
                for key, v in dict_type.items(value)
            ]
            return "{%s}" % ", ".join(items)
        for plain in set_types:
            if subclass(kind, plain):
                items = [literal(v, depth + 1) for v in plain.__iter__(value)]
                return "{%s}" % (", ".join(items) or "*()")
        raise failure("a result of type %s is no plain value" % kind.__name__)

    def run_call(body):
        prelude, source, expression = parts_of(body)
        space = {"__name__": "solution", "__builtins__": builtins}
        run(parse(prelude, "<prelude>", "exec"), space)
        run(compiled(source, "exec"), space)
        value = evaluate(parse(expression, "<call>", "eval"), space)
        return text_type.encode(literal(value, 0))

    # The seed, the limits and the walls are this process's, and stay.
    def restart(body):
        end_children()
        posix.chdir("/tmp")
        for fd, place in ((control, 0), (output, 1), (output, 2)):
            posix.dup2(fd, place)
        posix.closerange(3, 1024)
        script = source + "\n_serve(%d, 0)\n" % processes_max
        options = ["-s", "-S", "-u", "-X", "utf8", "-c", script]
        posix.execve("/usr/bin/python3", ["python3", *options], variables)

    # A file below /tmp that has no name, for a candidate shares /tmp.
    def unnamed(data):
        fd = posix.open("/tmp/unnamed", posix.O_RDWR | posix.O_CREAT, 0o600)
        posix.unlink("/tmp/unnamed")
        write_all(fd, data)
        posix.lseek(fd, 0, 0)
        return fd

    def write_all(fd, data):
        while data:
            data = data[posix.write(fd, data) :]

    def contents(fd):
        data = b""
        while piece := posix.read(fd, 1 << 20):
            data += piece
        return data

    def run_program(body):
        arguments, stdin, artifact, *tree = parts_of(body)
        arguments = arguments.split(b"\0")[:-1]
        stdin, stderr = unnamed(stdin), unnamed(b"")
        for entry, data in zip(tree[::2], tree[1::2]):
            kind, path = entry[:1], b"/tmp/" + entry[1:]
            if kind == b"d":
                posix.mkdir(path, 0o700)
            elif kind == b"l":
                posix.symlink(data, path)
            else:
                mode = 0o700 if kind == b"x" else 0o600
                fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT, mode)
                write_all(fd, data)
                posix.close(fd)
        child = posix.fork()
        if child == 0:
            try:
                posix.dup2(stdin, 0)
                posix.dup2(stderr, 2)
                for ignored in 13, 25:  # by Python: SIGPIPE, SIGXFSZ
                    handle(ignored, 0)
                environment = {"PATH": "/usr/bin", "HOME": "/tmp"}
                environment["PYTHONHASHSEED"] = "0"
                posix.execve(arguments[0], arguments, environment)
            finally:
                leave(127)
        _, status = posix.waitpid(child, 0)
        end_children()
        code = 128 + (status & 127) if status & 127 else status >> 8
        left = posix.statvfs("/tmp")
        room = b"%d %d" % (left.f_bfree, left.f_ffree)
        posix.lseek(stderr, 0, 0)
        said = contents(stderr)
        if count(said) > 4000:
            said = said[:2000] + b"\n...\n" + said[-1990:]
        made = b""
        if artifact and code == 0:
            made = contents(posix.open(b"/tmp/" + artifact, posix.O_RDONLY))
        return part(b"%d" % code) + part(said) + part(made) + part(room)

    runs = {b"c": run_cell, b"v": run_call, b"x": run_program, b"r": restart}
    restore_output()
    reply(standing, b"")
    while True:
        kind = read(1)
        seed = int_type.from_bytes(read(8), "little")
        body = read(int_type.from_bytes(read(4), "little"))
        restore_output()
        status = 0
        running.clear()
        try:
            if not seeded:
                random.seed(seed)
                seeded = True
            result = runs[kind](body)
            if count(result) > answer_bytes_max[kind]:
                raise failure("a result of %d bytes" % count(result))
        except BaseException as raised:
            status = 1
            try:
                result = describe(raised).encode("utf-8", "replace")[:4096]
            except BaseException:
                result = b"an exception that cannot be printed"
        if getpid() != driver:
            leave(0)  # a child the cell forked came back here
        end_children()
        reply(status, result)
