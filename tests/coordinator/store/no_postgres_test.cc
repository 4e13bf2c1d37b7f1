// A build without libpq: linked here instead of the files that need it.
#include "coordinator/archive/postgres_step_history.h"
#include "coordinator/store/postgres_election.h"
#include "tests/testing/status_matchers.h"

namespace weft::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using weft::testing::StatusIs;

TEST(NoPostgres, SaysSoAndWhatToDo) {
  const auto says_so = StatusIs(absl::StatusCode::kUnimplemented,
                                AllOf(HasSubstr("was built without PostgreSQL"),
                                      HasSubstr("leave the setting out"), HasSubstr("libpq")));
  EXPECT_THAT(CheckPostgresTarget("host=db"), says_so);
  PostgresOptions options;
  options.target = "host=db";
  EXPECT_THAT(AwaitLeadership(options, {}).status(), says_so);
  EXPECT_THAT(OpenPostgresStepHistory(options, {}).status(), says_so);
}

}  // namespace
}  // namespace weft::coordinator
