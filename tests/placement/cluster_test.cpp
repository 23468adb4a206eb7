#include "gmock/gmock.h"
#include "placement/cluster_json.h"
#include "placement/quantity.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

template <typename Call>
std::string ErrorOf(Call call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kPlan) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(Quantity, UnitsArePeoples) {
  const auto bytes = [](const char* text) { return ParseQuantity(text, Measure::kBytes, "x"); };
  EXPECT_EQ(bytes("40GiB"), 40.0 * (1 << 30));
  EXPECT_EQ(bytes("20 GB"), 20e9);
  EXPECT_EQ(bytes("512MiB"), 512.0 * (1 << 20));
  EXPECT_EQ(bytes("7"), 7);
  EXPECT_EQ(bytes("16Gb"), 2e9);
  EXPECT_EQ(bytes("10gib"), 10.0 * (1 << 30));
  EXPECT_EQ(ParseQuantity("1.55TB/s", Measure::kBandwidth, "x"), 1.55e12);
  EXPECT_EQ(ParseQuantity("25Gb/s", Measure::kBandwidth, "x"), 25e9 / 8);
  EXPECT_EQ(ParseQuantity("312e12", Measure::kFlops, "x"), 312e12);
  EXPECT_EQ(ParseQuantity("312TFLOP/s", Measure::kFlops, "x"), 312e12);
  EXPECT_EQ(ParseQuantity("8us", Measure::kSeconds, "x"), 8e-6);
  EXPECT_EQ(ParseQuantity("8e-6", Measure::kSeconds, "x"), 8e-6);
}

TEST(Quantity, AnythingElseIsRefusedByName) {
  for (const char* text : {"", "GiB", "-1GiB", "nan", "inf", "1e400", "40 GiB extra", "40GiB/s",
                           "40XB", "1e19", "0x10"}) {
    EXPECT_THAT(ErrorOf([&] { ParseQuantity(text, Measure::kBytes, "the field"); }),
                HasSubstr("the field"))
        << text;
  }
  EXPECT_THAT(ErrorOf([] { ParseQuantity("8GB", Measure::kSeconds, "latency"); }),
              HasSubstr("latency"));
}

constexpr const char* kTwoNodes = R"({
  "nodes": [
    {"name": "a", "link": {"bandwidth": "25GB/s", "latency": 8e-6}, "devices": [
      {"name": "cuda:0", "kind": "cuda", "model": "A100-40GB", "memory": "40GiB", "free": "39.2GiB",
       "bandwidth": "1.55TB/s", "flops": "312e12"}]},
    {"name": "b", "devices": [{"name": "cuda:0", "memory": "24GiB", "model": "unheard of"},
                              {"name": "cpu", "memory": 64000000000, "color": "green"}]}],
  "links": [{"between": ["b", "a"], "bandwidth": "25Gb/s", "latency": 30e-6}],
  "default_link": {"bandwidth": "10Gb/s", "latency": 80e-6}})";

TEST(ClusterFile, IsReadWithUnitsLinksAndNotes) {
  const Cluster cluster = ParseCluster(kTwoNodes);
  ASSERT_THAT(cluster.devices, SizeIs(3));
  EXPECT_EQ(cluster.IdOf(2), "b/cpu");
  EXPECT_EQ(cluster.devices[0].budget, static_cast<int64_t>(39.2 * (1 << 30)));
  EXPECT_EQ(cluster.devices[1].budget, int64_t{24} << 30);
  EXPECT_EQ(cluster.devices[0].bandwidth, 1.55e12);
  EXPECT_EQ(cluster.devices[1].bandwidth, SpeedOf("cuda", "").bandwidth);
  EXPECT_EQ(cluster.LinkBetween(0, 0).latency, 8e-6);
  EXPECT_EQ(cluster.LinkBetween(0, 1).bandwidth, 25e9 / 8);
  EXPECT_EQ(cluster.LinkBetween(2, 0).latency, 30e-6);
  EXPECT_EQ(cluster.LinkBetween(1, 2), kAssumedNodeLink);
  EXPECT_THAT(cluster.notes, testing::Contains(HasSubstr("color")));
  EXPECT_THAT(cluster.notes, testing::Contains(HasSubstr("speed assumed")));
}

TEST(KnownDevices, AreKnownByWholeWords) {
  const auto known = [](const char* model) { return SpeedOf("cuda", model).known; };
  EXPECT_EQ(SpeedOf("cuda", "NVIDIA A100-SXM4-80GB").bandwidth, 2.039e12);
  EXPECT_EQ(SpeedOf("cuda", "A100-40GB").bandwidth, 1.555e12);
  EXPECT_EQ(SpeedOf("cuda", "NVIDIA H100 PCIe").bandwidth, 2.0e12);
  EXPECT_EQ(SpeedOf("cuda", "NVIDIA H100 80GB HBM3").bandwidth, 3.35e12);
  EXPECT_EQ(SpeedOf("cuda", "NVIDIA GH200 480GB").bandwidth, 4.0e12);
  for (const char* model : {"Tesla T4", "NVIDIA A10", "NVIDIA GeForce RTX 4090", "NVIDIA L40S"}) {
    EXPECT_TRUE(known(model)) << model;
  }
  for (const char* model :
       {"", "NVIDIA RTX A1000", "NVIDIA T400 4GB", "NVIDIA A10G", "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"}) {
    EXPECT_FALSE(known(model)) << model;
  }
}

TEST(ClusterFile, ASpeedThatIsSaidToBeAssumedIsNoted) {
  const auto notes = [](const std::string& more) {
    return ParseCluster(
               R"({"nodes": [{"name": "a", "devices": [{"name": "cuda:0", "memory": "8GiB",
                   "bandwidth": 1e12, "flops": 1e14)" +
               more + "}]}]}")
        .notes;
  };
  EXPECT_THAT(notes(""), IsEmpty());
  EXPECT_THAT(notes(R"(, "speed_assumed": true)"),
              testing::ElementsAre(HasSubstr("speed assumed")));
  EXPECT_THAT(ErrorOf([&] { notes(R"(, "speed_assumed": 1)"); }), HasSubstr("speed_assumed"));
}

TEST(ClusterFile, IsWrittenAsItIsRead) {
  const Cluster cluster = ParseCluster(kTwoNodes);
  const Cluster again = ParseCluster(ToJson(cluster));
  EXPECT_EQ(ToJson(again), ToJson(cluster));
  EXPECT_THAT(again.notes, IsEmpty());
  EXPECT_EQ(again.LinkBetween(0, 1), cluster.LinkBetween(0, 1));
}

TEST(ClusterFile, WhatIsNoneIsRefused) {
  const auto refused = [](const std::string& nodes, const std::string& more = "") {
    return ErrorOf([&] { ParseCluster("{\"nodes\": " + nodes + more + "}"); });
  };
  const std::string one = R"([{"name": "a", "devices": [{"name": "cuda:0", "memory": "8GiB"}]}])";
  EXPECT_THAT(ErrorOf([] { ParseCluster("[]"); }), HasSubstr("JSON object"));
  EXPECT_THAT(ErrorOf([] { ParseCluster("{}"); }), HasSubstr("nodes"));
  EXPECT_THAT(refused("[]"), HasSubstr("no device"));
  EXPECT_THAT(refused(R"([{"name": "a", "devices": []}])"), HasSubstr("no device"));
  EXPECT_THAT(refused(R"([{"devices": []}])"), HasSubstr("name"));
  EXPECT_THAT(refused(R"([{"name": "a/b", "devices": []}])"), HasSubstr("a/b"));
  EXPECT_THAT(refused(R"([{"name": "a", "devices": [{"name": "cuda:0"}]}])"), HasSubstr("memory"));
  EXPECT_THAT(refused(R"([{"name": "a", "devices": [{"name": "tpu:0", "memory": 1}]}])"),
              HasSubstr("tpu"));
  EXPECT_THAT(refused(R"([{"name": "a", "devices": [{"name": "cpu", "memory": 1, "free": 2}]}])"),
              HasSubstr("free"));
  EXPECT_THAT(refused(R"([{"name": "a", "devices": [{"name": "cpu", "memory": 1},
                                            {"name": "cpu", "memory": 1}]}])"),
              HasSubstr("two devices"));
  EXPECT_THAT(
      refused(R"([{"name": "a", "devices": [{"name": "cpu", "memory": 1, "bandwidth": 0}]}])"),
      HasSubstr("bandwidth"));
  EXPECT_THAT(refused(one, R"(, "links": [{"between": ["a", "z"]}])"), HasSubstr("'z'"));
  EXPECT_THAT(refused(one, R"(, "links": [{"between": ["a", "a"]}])"), HasSubstr("itself"));
  EXPECT_THAT(refused(one, R"(, "default_link": 7)"), HasSubstr("default_link"));
  // No time that a number can hold.
  EXPECT_THAT(
      refused(R"([{"name": "a", "devices": [{"name": "cpu", "memory": 1, "bandwidth": 1e-320}]}])"),
      HasSubstr("bandwidth"));
  // One of two would be lost without a word.
  EXPECT_THAT(refused(R"([{"name": "a", "devices": [{"name": "cpu", "memory": 1, "memory": 2}]}])"),
              HasSubstr("\"memory\" twice"));
  EXPECT_THAT(refused(one, R"(, "nodes": [])"), HasSubstr("\"nodes\" twice"));
}

TEST(MaxMemory, LowersBudgetsInHuggingFacesSpelling) {
  Cluster cluster = ParseCluster(kTwoNodes);
  ApplyMaxMemory(R"({"0": "20GiB", "cpu": "10GB", "a/cuda:0": 5000000000})", cluster);
  EXPECT_EQ(cluster.devices[0].budget, 5000000000);
  EXPECT_EQ(cluster.devices[1].budget, int64_t{20} << 30);
  EXPECT_EQ(cluster.devices[2].budget, 10000000000);
  ApplyMaxMemory(R"({"b:cuda:0": "100GiB"})", cluster);
  EXPECT_EQ(cluster.devices[1].budget, int64_t{20} << 30);
  EXPECT_THAT(ErrorOf([&] { ApplyMaxMemory(R"({"3": "1GiB"})", cluster); }), HasSubstr("3"));
  EXPECT_THAT(ErrorOf([&] { ApplyMaxMemory(R"({"0": "much"})", cluster); }), HasSubstr("much"));
  EXPECT_THAT(ErrorOf([&] { ApplyMaxMemory(R"({"0": 1, "0": 2})", cluster); }),
              HasSubstr("\"0\" twice"));
  // Accelerate names the processor whether or not anything goes there.
  cluster.devices.pop_back();
  EXPECT_NO_THROW(ApplyMaxMemory(R"({"0": "20GiB", "cpu": "30GiB", "disk": "1TB"})", cluster));
}

}  // namespace
}  // namespace xcomposer
