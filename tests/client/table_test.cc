#include "client/table.h"

#include <gtest/gtest.h>

#include <sstream>

namespace weft::client {
namespace {

TEST(Table, AlignsColumnsAndEndsLinesWithoutBlanks) {
  Table table({"NAME", "STATE"});
  table.Add({"demo-1", "RUNNING"});
  table.Add({"a", ""});
  std::ostringstream out;
  table.Print(out);
  EXPECT_EQ(out.str(),
            "NAME    STATE\n"
            "demo-1  RUNNING\n"
            "a       -\n");
}

}  // namespace
}  // namespace weft::client
