#include "client/output.h"

#include <gtest/gtest.h>

#include <sstream>

#include "weft/v1/queue.pb.h"

namespace weft::client {
namespace {

v1::Queue SomeQueue(const char* name) {
  v1::Queue queue;
  queue.set_name(name);
  queue.set_max_workers(3);
  return queue;
}

std::string Printed(bool as_list, OutputFormat format) {
  const v1::Queue a = SomeQueue("queues/a");
  std::ostringstream out;
  PrintMessages({&a}, as_list, format, out);
  return out.str();
}

TEST(PrintMessages, KeepsTheNamesOfTheProto) {
  EXPECT_EQ(Printed(false, OutputFormat::kJson),
            "{\n \"name\": \"queues/a\",\n \"max_workers\": 3\n}\n");
}

TEST(PrintMessages, MakesAListAnArray) {
  EXPECT_EQ(Printed(true, OutputFormat::kJson),
            "[{\n \"name\": \"queues/a\",\n \"max_workers\": 3\n}\n]\n");
}

TEST(PrintMessages, WritesYamlInBlocks) {
  EXPECT_EQ(Printed(true, OutputFormat::kYaml), "- name: queues/a\n  max_workers: 3\n");
}

TEST(PrintMessages, QuotesInYamlWhatWouldNotBeText) {
  v1::Queue queue;
  queue.set_name("1e5");
  std::ostringstream out;
  PrintMessages({&queue}, false, OutputFormat::kYaml, out);
  EXPECT_EQ(out.str(), "name: \"1e5\"\n");
}

}  // namespace
}  // namespace weft::client
