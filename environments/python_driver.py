# Runs inside the sandbox (python_session.h): a Python session that reads cells
# from its stdin socket and answers when they ended. What they print goes to its
# stdout, a file that the other end reads. Cells share one name space. It imports
# nothing that costs start-up time. A cell runs in this very process and can
# reach its socket: that gains nothing, for a reply carries only text for the
# model to read, never a verdict, and once the other end has it, it sees itself
# that nothing goes on (sandbox_freeze.h).
#
#   in   u32 size, u64 seed, then `size` bytes of source
#   out  u8 status (0 ran, 1 raised), u32 size, then `size` bytes: what it raised
#   The first out, status 2 and size 0, says that the session stands.


def _serve(processes_max):
    import _ast
    import builtins
    import posix
    import resource
    import sys

    control = posix.dup(0)
    null = posix.open("/dev/null", posix.O_RDWR)
    posix.dup2(null, 0)
    posix.close(null)
    output = posix.dup(1)
    resource.setrlimit(resource.RLIMIT_NPROC, (processes_max, processes_max))
    stdout = sys.stderr = sys.stdout
    run, parse, describe_type, text_of = exec, compile, type, str
    getpid, leave = posix.getpid, posix._exit
    driver = getpid()
    space = {"__name__": "__main__", "__builtins__": builtins}
    sys.path = [path for path in sys.path if path]
    seeded = False

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
        data = b""
        while len(data) < size:
            piece = posix.read(control, min(size - len(data), 65536))
            if not piece:
                leave(0)
            data += piece
        return data

    def reply(status, data):
        data = bytes([status]) + len(data).to_bytes(4, "little") + data
        while data:
            data = data[posix.write(control, data) :]

    def describe(error):
        line = error.lineno if isinstance(error, SyntaxError) else None
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<cell>":
                line = trace.tb_lineno
            trace = trace.tb_next
        syntax = isinstance(error, SyntaxError)
        message = error.msg if syntax else text_of(error)
        text = describe_type(error).__name__
        text += ": " + message if message else ""
        return text + (" (line %d)" % line if line is not None else "")

    def run_cell(source):
        tree = parse(source, "<cell>", "exec", 0x400)  # to a syntax tree
        last = None
        if tree.body and isinstance(tree.body[-1], _ast.Expr):
            last = _ast.Expression(tree.body.pop().value)
        run(parse(tree, "<cell>", "exec"), space)
        if last is not None:
            value = eval(parse(last, "<cell>", "eval"), space)
            if value is not None:
                print(repr(value), file=stdout)

    restore_output()
    reply(2, b"")
    while True:
        size = int.from_bytes(read(4), "little")
        seed = int.from_bytes(read(8), "little")
        source = read(size)
        restore_output()
        status, error = 0, b""
        try:
            if not seeded and b"random" in source:
                import random

                random.seed(seed)
                seeded = True
            run_cell(source)
        except BaseException as raised:
            status = 1
            try:
                error = describe(raised).encode("utf-8", "replace")[:4096]
            except BaseException:
                error = b"an exception that cannot be printed"
        if getpid() != driver:
            leave(0)  # a child the cell forked came back here
        end_children()
        reply(status, error)
