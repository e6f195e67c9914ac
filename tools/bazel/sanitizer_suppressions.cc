// What ThreadSanitizer misreads in Debian's libraries, which are built without
// it; AddressSanitizer needs nothing. Linked into every binary of --config=tsan
// (by --custom_malloc in .bazelrc), so that it holds in any directory and in
// child processes too, where a file named in an environment variable would be
// lost.
//
// Only names of libraries stand here, nothing of ours. A `called_from_lib`
// hides what a library itself reads and writes; a `race` is one function of a
// library's header that is compiled into our binaries, with what it calls: no
// function that calls back into our code. A `race_top` looks at the innermost
// frame alone, so it may name a namespace: what our callbacks do has a frame of
// ours innermost and is seen. What a library orders by means that
// ThreadSanitizer cannot see, and our code depends on, is shown to it there, by
// a join or an atomic of ours.

extern "C" {

__attribute__((no_sanitize("thread", "address", "undefined"))) const char*
__tsan_default_suppressions() {
  return R"(
# gRPC's threads hand memory to each other under Abseil's mutex, which sleeps on
# a futex and is not seen.
called_from_lib:libgrpc.so
# Its C++ side: servers and channels, by the same threads.
called_from_lib:libgrpc++.so
# Its own locks and thread starts.
called_from_lib:libgpr.so
# gRPC keeps its configuration in it.
called_from_lib:libupb.so
# gRPC's statuses and errors, made in one of its threads, freed in another.
called_from_lib:libabsl_status.so
# The texts of those, joined in one thread and read in another.
called_from_lib:libabsl_strings.so
# Their payloads.
called_from_lib:libabsl_cord.so
# The counted parts of these payloads.
called_from_lib:libabsl_cord_internal.so
# The mutex itself.
called_from_lib:libabsl_synchronization.so
# The mutex's search for deadlocks.
called_from_lib:libabsl_graphcycles_internal.so
# ZeroMQ's threads pass messages through queues of bare atomics.
called_from_lib:libzmq.so

# Abseil's header: the last owner of a status frees it, and the others gave it up
# in the library.
race:absl::*Status::Unref

# The C++ library's header, which in C++20 is compiled into our binaries and
# which gRPC, finding it there, copies its own strings with. It hides two threads
# of ours that assign to one string, too: nothing narrower is named in the stack.
race:std::__cxx11::basic_string<char*::_M_assign

# gRPC's headers: the operations of a call, begun by our thread, finished by one
# of gRPC's.
race:grpc::internal::CallOpSet<
# The object behind a reactor, made by our thread, then used by gRPC's.
race:grpc::internal::ClientCallbackReaderWriterFactory<
# The rest of both where they touch only themselves.
race_top:grpc::internal::
)";
}

}  // extern "C"
