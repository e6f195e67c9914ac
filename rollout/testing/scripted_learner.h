// A learner on real gRPC that plays a script to each worker's stream, and what
// scripts say and hear.
//
//   ScriptedLearner learner([](int number, ScriptedLearner::Stream* stream) {
//     ...  // the number-th stream, from 1
//     return grpc::Status::OK;
//   });

#ifndef ROLLOUT_TESTING_SCRIPTED_LEARNER_H_
#define ROLLOUT_TESTING_SCRIPTED_LEARNER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "kernels/base/mutex.h"
#include "proto/learner.grpc.pb.h"
#include "proto/trajectory.pb.h"
#include "proto/wire/trajectory_stream.h"

namespace temper {

class ScriptedLearner : public Learner::Service {
 public:
  using Stream = grpc::ServerReaderWriter<LearnerMessage, WorkerMessage>;
  using Script = std::function<grpc::Status(int, Stream*)>;

  explicit ScriptedLearner(Script script) : script_(std::move(script)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~ScriptedLearner() override { Shutdown(); }

  // Afterwards no script runs: its threads are joined.
  void Shutdown() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  // One stream at a time; the next waits for the script's end.
  grpc::Status Connect(grpc::ServerContext*, Stream* stream) override {
    MutexLock lock(&mutex_);
    return script_(++streams_, stream);
  }

 private:
  const Script script_;
  Mutex mutex_;
  int streams_ ABSL_GUARDED_BY(mutex_) = 0;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

inline void GrantCredit(ScriptedLearner::Stream* stream,
                        uint32_t trajectories) {
  LearnerMessage message;
  message.mutable_credit()->set_trajectories(trajectories);
  stream->Write(message);
}

// Reads the hello, says `welcome` with the wire's version, grants credits.
inline void Welcome(ScriptedLearner::Stream* stream, LearnerWelcome welcome,
                    uint32_t credits = 64) {
  WorkerMessage hello;
  EXPECT_TRUE(stream->Read(&hello) && hello.has_hello());
  welcome.set_wire_version(kWireVersion);
  LearnerMessage message;
  *message.mutable_welcome() = std::move(welcome);
  stream->Write(message);
  GrantCredit(stream, credits);
}

inline void Ack(ScriptedLearner::Stream* stream, const TrajectoryKey& key) {
  LearnerMessage message;
  *message.mutable_ack()->mutable_key() = key;
  message.mutable_ack()->set_result(TrajectoryAck::COMMITTED);
  stream->Write(message);
}

// Says that the run is over, and why.
inline void SayStop(ScriptedLearner::Stream* stream,
                    const std::string& reason) {
  LearnerMessage message;
  message.mutable_stop()->set_reason(reason);
  stream->Write(message);
}

inline void DrainUntilClosed(ScriptedLearner::Stream* stream) {
  WorkerMessage message;
  while (stream->Read(&message)) {
  }
}

// Reads to the end of the next trajectory, and hands every other message to
// `hear`; false if the stream ends first.
inline bool ReadTrajectory(
    ScriptedLearner::Stream* stream, Trajectory* trajectory,
    const std::function<void(const WorkerMessage&)>& hear = {}) {
  TrajectoryAssembler assembler;
  WorkerMessage message;
  while (stream->Read(&message)) {
    switch (message.body_case()) {
      case WorkerMessage::kHeader:
        EXPECT_TRUE(assembler.Header(message.header()).ok());
        break;
      case WorkerMessage::kChunk:
        EXPECT_TRUE(assembler.Chunk(message.chunk()).ok());
        break;
      case WorkerMessage::kEnd: {
        const auto whole = assembler.End(message.end());
        EXPECT_TRUE(whole.ok()) << whole.status();
        EXPECT_TRUE(whole.ok() && trajectory->ParseFromString(*whole));
        return true;
      }
      default:
        if (hear) hear(message);
    }
  }
  return false;
}

}  // namespace temper

#endif  // ROLLOUT_TESTING_SCRIPTED_LEARNER_H_
