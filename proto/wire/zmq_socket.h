// ZeroMQ behind Status: contexts, sockets and single-part messages that close
// themselves. What binds or connects is loopback TCP only: other addresses
// need CURVE, which this version does not have.
//
// A socket belongs to one thread. A Wakeup may be signalled from any.

#ifndef PROTO_WIRE_ZMQ_SOCKET_H_
#define PROTO_WIRE_ZMQ_SOCKET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace temper {

// InvalidArgument unless `endpoint` is tcp:// and what CheckLoopback lets pass.
absl::Status CheckLoopbackEndpoint(const std::string& endpoint);

class ZmqContext {
 public:
  // Null where the process has no descriptors left; Create then fails.
  ZmqContext();
  ~ZmqContext();  // after its sockets
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;
  void* get() const { return context_; }

 private:
  void* const context_;
};

class ZmqSocket {
 public:
  // `type` is ZMQ_PUB and so on. A message above `message_bytes_max` closes
  // the peer's connection; `queue_max` bounds each peer's queues; what is not
  // sent when the socket closes is dropped.
  static absl::StatusOr<std::unique_ptr<ZmqSocket>> Create(
      const ZmqContext& context, int type, int64_t message_bytes_max,
      int queue_max);
  ~ZmqSocket();
  ZmqSocket(const ZmqSocket&) = delete;
  ZmqSocket& operator=(const ZmqSocket&) = delete;

  // Unavailable where the address is taken.
  absl::Status Bind(const std::string& endpoint);
  absl::Status Connect(const std::string& endpoint);
  absl::Status Subscribe();  // ZMQ_SUB: to everything
  // What Bind was given, with the port that the system chose.
  absl::StatusOr<std::string> Endpoint() const;

  // Sends all parts as one message, or drops it: false where the peer's queue
  // is full or the peer is gone.
  bool Send(const std::vector<std::string>& parts);
  // The next message's parts, if one is there; one of more than `parts_max` is
  // dropped and reads as none.
  std::optional<std::vector<std::string>> Receive(size_t parts_max);

  void* get() const { return socket_; }

 private:
  explicit ZmqSocket(void* socket) : socket_(socket) {}
  void* const socket_;
};

// An eventfd: wakes a thread that waits in ZmqWait.
class Wakeup {
 public:
  Wakeup();
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;
  void Signal();
  void Clear();
  int fd() const { return fd_; }

 private:
  const int fd_;
};

// Waits until a socket is readable, `wakeup` was signalled (and clears it), or
// `timeout_ms` have passed.
void ZmqWait(const std::vector<const ZmqSocket*>& sockets, Wakeup* wakeup,
             int64_t timeout_ms);

}  // namespace temper

#endif  // PROTO_WIRE_ZMQ_SOCKET_H_
