#include "proto/wire/zmq_socket.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "proto/wire/loopback.h"
#include "zmq.h"

namespace temper {
namespace {

constexpr char kTcp[] = "tcp://";

absl::Status ZmqError(const std::string& what) {
  const int error = zmq_errno();
  const std::string message = absl::StrCat(what, ": ", zmq_strerror(error));
  if (error == EADDRINUSE || error == EADDRNOTAVAIL) {
    return absl::UnavailableError(message);
  }
  if (error == EMFILE || error == ENFILE) {
    return absl::ResourceExhaustedError(
        absl::StrCat(message, "; raise the limit with `ulimit -n`"));
  }
  return absl::InternalError(message);
}

// A zmq_msg_t that closes itself.
class Message {
 public:
  Message() { CHECK_EQ(zmq_msg_init(&message_), 0); }
  ~Message() { zmq_msg_close(&message_); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
  zmq_msg_t* get() { return &message_; }
  std::string Bytes() {
    return std::string(static_cast<const char*>(zmq_msg_data(&message_)),
                       zmq_msg_size(&message_));
  }

 private:
  zmq_msg_t message_;
};

}  // namespace

absl::Status CheckLoopbackEndpoint(const std::string& endpoint) {
  if (!absl::StartsWith(endpoint, kTcp)) {
    return absl::InvalidArgumentError(
        absl::StrCat("endpoint \"", endpoint, "\" is not loopback TCP; use ",
                     kTcp, "127.0.0.1:PORT"));
  }
  return CheckLoopback(endpoint.substr(strlen(kTcp)));
}

ZmqContext::ZmqContext() : context_(zmq_ctx_new()) {}

// Blocks until every socket of it is closed: they are declared after their
// context, and go before it.
ZmqContext::~ZmqContext() {
  if (context_ != nullptr) zmq_ctx_term(context_);
}

absl::StatusOr<std::unique_ptr<ZmqSocket>> ZmqSocket::Create(
    const ZmqContext& context, int type, int64_t message_bytes_max,
    int queue_max) {
  if (context.get() == nullptr) {
    return absl::ResourceExhaustedError(
        "no ZeroMQ context: too many open files; raise the limit with "
        "`ulimit -n`");
  }
  void* const handle = zmq_socket(context.get(), type);
  if (handle == nullptr) return ZmqError("zmq_socket");
  std::unique_ptr<ZmqSocket> socket(new ZmqSocket(handle));
  // Unsent messages go with the socket; else closing waits for a peer that may
  // never come back.
  const int linger = 0;
  CHECK_EQ(zmq_setsockopt(handle, ZMQ_LINGER, &linger, sizeof(linger)), 0);
  CHECK_EQ(zmq_setsockopt(handle, ZMQ_SNDHWM, &queue_max, sizeof(queue_max)),
           0);
  CHECK_EQ(zmq_setsockopt(handle, ZMQ_RCVHWM, &queue_max, sizeof(queue_max)),
           0);
  // A larger message ends its connection before memory is taken for it.
  CHECK_EQ(zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &message_bytes_max,
                          sizeof(message_bytes_max)),
           0);
  return socket;
}

ZmqSocket::~ZmqSocket() { zmq_close(socket_); }

absl::Status ZmqSocket::Bind(const std::string& endpoint) {
  RETURN_IF_ERROR(CheckLoopbackEndpoint(endpoint));
  if (zmq_bind(socket_, endpoint.c_str()) != 0) {
    return ZmqError(absl::StrCat("bind ", endpoint));
  }
  return absl::OkStatus();
}

absl::Status ZmqSocket::Connect(const std::string& endpoint) {
  RETURN_IF_ERROR(CheckLoopbackEndpoint(endpoint));
  if (zmq_connect(socket_, endpoint.c_str()) != 0) {
    return ZmqError(absl::StrCat("connect ", endpoint));
  }
  return absl::OkStatus();
}

absl::Status ZmqSocket::Subscribe() {
  if (zmq_setsockopt(socket_, ZMQ_SUBSCRIBE, "", 0) != 0) {
    return ZmqError("subscribe");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ZmqSocket::Endpoint() const {
  char endpoint[256];
  size_t size = sizeof(endpoint);
  if (zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, endpoint, &size) != 0) {
    return ZmqError("last endpoint");
  }
  return std::string(endpoint);
}

bool ZmqSocket::Send(const std::vector<std::string>& parts) {
  for (size_t i = 0; i < parts.size(); ++i) {
    const int more = i + 1 < parts.size() ? ZMQ_SNDMORE : 0;
    if (zmq_send(socket_, parts[i].data(), parts[i].size(),
                 // Only the first part can be refused: the parts of one message
                 // go out together or not at all.
                 ZMQ_DONTWAIT | more) < 0) {
      return false;
    }
  }
  return true;
}

std::optional<std::vector<std::string>> ZmqSocket::Receive(size_t parts_max) {
  std::vector<std::string> parts;
  bool whole = true;
  for (;;) {
    Message message;
    if (zmq_msg_recv(message.get(), socket_, ZMQ_DONTWAIT) < 0) {
      return std::nullopt;
    }
    if (parts.size() < parts_max) {
      parts.push_back(message.Bytes());
    } else {
      whole = false;
    }
    // Read to its end even when it is too long, or the rest would be taken for
    // the next message.
    if (zmq_msg_more(message.get()) == 0) break;
  }
  if (!whole) return std::nullopt;
  return parts;
}

// An eventfd and no socket pair: ZeroMQ's own sockets may be used by one thread
// only, and Signal comes from others.
Wakeup::Wakeup() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  CHECK(fd_ >= 0) << "eventfd: errno " << errno;
}

Wakeup::~Wakeup() { close(fd_); }

void Wakeup::Signal() {
  const uint64_t one = 1;
  // EAGAIN: the count is full, so a signal is there already.
  CHECK(write(fd_, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN);
}

void Wakeup::Clear() {
  uint64_t count;
  while (read(fd_, &count, sizeof(count)) == sizeof(count)) {
  }
}

void ZmqWait(const std::vector<const ZmqSocket*>& sockets, Wakeup* wakeup,
             int64_t timeout_ms) {
  std::vector<zmq_pollitem_t> items;
  for (const ZmqSocket* socket : sockets) {
    items.push_back({socket->get(), 0, ZMQ_POLLIN, 0});
  }
  items.push_back({nullptr, wakeup->fd(), ZMQ_POLLIN, 0});
  zmq_poll(items.data(), static_cast<int>(items.size()),
           static_cast<long>(std::max<int64_t>(timeout_ms, 0)));
  if ((items.back().revents & ZMQ_POLLIN) != 0) wakeup->Clear();
}

}  // namespace temper
