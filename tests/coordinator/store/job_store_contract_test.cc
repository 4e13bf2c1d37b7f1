// The contract of the stores that live in one process or on one disk.
#include "tests/coordinator/store/job_store_contract.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "coordinator/store/memory_job_store.h"
#include "coordinator/store/sqlite_job_store.h"
#include "tests/testing/temp_dir.h"

namespace weft::coordinator {
namespace {

using ::weft::testing::TempDir;

class MemoryFixture {
 public:
  JobStore& store() { return store_; }
  void Reopen() {}  // as durable as its object

 private:
  MemoryJobStore store_;
};

class SqliteFixture {
 public:
  SqliteFixture() { Reopen(); }
  JobStore& store() { return *store_; }
  void Reopen() {
    store_.reset();
    absl::StatusOr<std::unique_ptr<SqliteJobStore>> opened =
        SqliteJobStore::Open(directory_.path().string());
    EXPECT_OK(opened);
    store_ = *std::move(opened);
  }

 private:
  TempDir directory_;
  std::unique_ptr<SqliteJobStore> store_;
};

using Implementations = ::testing::Types<MemoryFixture, SqliteFixture>;
INSTANTIATE_TYPED_TEST_SUITE_P(OneProcess, JobStoreContract, Implementations);

}  // namespace
}  // namespace weft::coordinator
