#include "environments/sandbox_test_main.h"

#include <cstdio>

#include "gtest/gtest.h"

namespace temper {

int RunTestsWithSandboxes(int argc, char** argv, SandboxPool** sandboxes) {
  auto supervisor = SandboxSupervisor::Start({});
  if (!supervisor.ok()) {
    fprintf(stderr, "%s\n", supervisor.status().ToString().c_str());
    return 1;
  }
  auto pool = SandboxPool::Create(supervisor->get());
  if (!pool.ok()) {
    fprintf(stderr, "%s\n", pool.status().ToString().c_str());
    return 1;
  }
  *sandboxes = pool->get();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

}  // namespace temper
