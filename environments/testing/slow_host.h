// A host for tests of many open Steps: one environment, "slow", that runs
// nothing. A Step of its is open until its time has come, and holds no thread;
// prompts are the task's messages, every answer is verified and none is right.
//
// Thread-safe. Ends what is open when it is destroyed.

#ifndef ENVIRONMENTS_TESTING_SLOW_HOST_H_
#define ENVIRONMENTS_TESTING_SLOW_HOST_H_

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "environments/environment.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/mutex.h"
#include "proto/environment.grpc.pb.h"

namespace temper {

class SlowHost final : public EnvironmentHost::CallbackService {
 public:
  // Listens on loopback. Steps stay open until Answer.
  SlowHost() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
    timer_ = std::thread([this] { Work(); });
  }
  ~SlowHost() override {
    Answer(std::chrono::milliseconds(0));
    server_->Shutdown();
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
      changed_.NotifyAll();
    }
    timer_.join();
  }

  static const EnvironmentFacts& facts() {
    static const EnvironmentFacts facts = {.name = "slow",
                                           .description = "for tests",
                                           .deterministic = true,
                                           .served_in = ServedIn::kRegistered,
                                           .open_steps = true};
    return facts;
  }
  const std::string& address() const { return address_; }

  // From now on a Step takes `step`; those that are open end one by one within
  // that time.
  void Answer(std::chrono::milliseconds step) {
    MutexLock lock(&mutex_);
    step_ = step;
    const auto now = Clock::now();
    const auto size = static_cast<int64_t>(open_.size());
    for (int64_t i = 0; i < size; ++i) {
      open_[static_cast<size_t>(i)].due = now + step * i / size;
    }
    changed_.NotifyAll();
  }

  int64_t open_steps() {
    MutexLock lock(&mutex_);
    return static_cast<int64_t>(open_.size());
  }
  int64_t answered() {
    MutexLock lock(&mutex_);
    return answered_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct OpenStep {
    Clock::time_point due;
    grpc::ServerUnaryReactor* reactor;
  };

  static grpc::ServerUnaryReactor* Done(grpc::CallbackServerContext* context) {
    auto* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerUnaryReactor* Open(grpc::CallbackServerContext* context,
                                 const OpenRequest* request,
                                 OpenResponse* response) override {
    *response->mutable_messages() = request->task().messages();
    return Done(context);
  }
  grpc::ServerUnaryReactor* Validate(grpc::CallbackServerContext* context,
                                     const ValidateRequest* request,
                                     ValidateResponse* response) override {
    *response->mutable_messages() = request->task().messages();
    return Done(context);
  }
  grpc::ServerUnaryReactor* Step(grpc::CallbackServerContext* context,
                                 const StepRequest* request,
                                 StepResponse* response) override {
    for (int i = 0; i < request->calls_size(); ++i) {
      response->add_results()->set_outcome(OUTCOME_OK);
      response->mutable_results(i)->set_content("done");
    }
    auto* const reactor = context->DefaultReactor();
    MutexLock lock(&mutex_);
    open_.push_back({Clock::now() + step_, reactor});
    // Who waits for the first to end need not hear of the others.
    if (open_.size() == 1) changed_.NotifyAll();
    return reactor;
  }
  grpc::ServerUnaryReactor* Grade(grpc::CallbackServerContext* context,
                                  const GradeRequest* request,
                                  GradeResponse* response) override {
    response->mutable_verdict()->set_outcome(request->outcome());
    response->mutable_verdict()->set_verified(true);
    return Done(context);
  }
  grpc::ServerUnaryReactor* Close(grpc::CallbackServerContext* context,
                                  const CloseRequest*,
                                  CloseResponse*) override {
    return Done(context);
  }
  grpc::ServerUnaryReactor* Hold(grpc::CallbackServerContext* context,
                                 const HoldRequest*, HoldResponse*) override {
    return Done(context);
  }

  // Ends Steps whose time has come: the first is always the first to end.
  void Work() {
    for (;;) {
      grpc::ServerUnaryReactor* reactor = nullptr;
      {
        MutexLock lock(&mutex_);
        if (stopping_) return;
        const auto now = Clock::now();
        if (open_.empty() || open_.front().due > now) {
          const auto wait =
              open_.empty() ? std::chrono::hours(1) : open_.front().due - now;
          changed_.WaitFor(
              &mutex_,
              std::chrono::duration_cast<std::chrono::microseconds>(wait));
          continue;
        }
        reactor = open_.front().reactor;
        open_.pop_front();
        ++answered_;
      }
      reactor->Finish(grpc::Status::OK);
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<OpenStep> open_ ABSL_GUARDED_BY(mutex_);
  std::chrono::milliseconds step_ ABSL_GUARDED_BY(mutex_) =
      std::chrono::hours(1);
  int64_t answered_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::thread timer_;
};

}  // namespace temper

#endif  // ENVIRONMENTS_TESTING_SLOW_HOST_H_
