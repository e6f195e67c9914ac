#include "proto/wire/grpc_status.h"

#include <string>

#include "gtest/gtest.h"

namespace temper {
namespace {

TEST(GrpcStatusTest, EveryCodeAndItsMessageMakeTheRoundTrip) {
  EXPECT_TRUE(FromGrpcStatus(ToGrpcStatus(absl::OkStatus())).ok());
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code),
                              "the reason");
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)), status);
  }
  EXPECT_EQ(ToGrpcStatus(absl::UnavailableError("x")).error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST(GrpcStatusTest, UnknownCodesAndLongMessagesAreTamed) {
  // No code, but within what the enum can hold.
  EXPECT_EQ(FromGrpcStatus(grpc::Status(static_cast<grpc::StatusCode>(25), "x"))
                .code(),
            absl::StatusCode::kUnknown);
  const auto cut = ToGrpcStatus(absl::InternalError(std::string(100000, 'x')));
  EXPECT_EQ(cut.error_message().size(), 2048u);
}

}  // namespace
}  // namespace temper
