#include "checkpoint/pickle.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/expect_refused.h"
#include "checkpoint/pickle_maker.h"
#include "checkpoint/scratch_directory.h"

namespace xcomposer {
namespace {

using testing_support::AddTensor;
using testing_support::Bytes;
using testing_support::ExpectRefused;
using testing_support::LittleEndian;
using testing_support::MakeStateDict;
using testing_support::PickledView;
using testing_support::PickleMaker;

constexpr const char* kFile = "some/pytorch_model.bin";

std::vector<PickledTensor> Read(const std::string& pickle, const CheckpointLimits& limits = {}) {
  return ReadPickledStateDict(Bytes(pickle), kFile, limits);
}

void Refused(const std::string& pickle, std::initializer_list<const char*> words) {
  ExpectRefused([&] { Read(pickle); }, kFile, "", words);
}

void Refused(const PickleMaker& pickle, std::initializer_list<const char*> words) {
  Refused(pickle.bytes(), words);
}

PickleMaker Begin() { return PickleMaker().Proto(); }

const PickledView kView{.name = "w", .elements = 6, .shape = {2, 3}, .strides = {3, 1}};

TEST(Pickle, ReadsAnOrderedDictAsTorchWritesIt) {
  const std::vector<PickledTensor> tensors = Read(MakeStateDict({kView,
                                                                 {.name = "big",
                                                                  .type = "BFloat16Storage",
                                                                  .key = "17",
                                                                  .elements = int64_t{1} << 40,
                                                                  .offset = 70000,
                                                                  .shape = {},
                                                                  .strides = {}}}));
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].dtype, DType::kF32);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].strides, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(tensors[1].storage, "17");
  EXPECT_EQ(tensors[1].storage_elements, int64_t{1} << 40);
  EXPECT_EQ(tensors[1].offset, 70000);
  EXPECT_EQ(tensors[1].dtype, DType::kBF16);
}

TEST(Pickle, ReadsAPlainDictParametersAndSingleItems) {
  PickleMaker pickle = Begin();
  pickle.Raw("}").Text("p").Global("torch._utils", "_rebuild_parameter");
  AddTensor(pickle, kView).Raw("\x88").OrderedDict().Raw("\x87Rs.");
  EXPECT_EQ(Read(pickle.bytes()).at(0).name, "p");
}

TEST(Pickle, ReadsMemoReferencesAndMetadataArguments) {
  // The rebuild function through the memo, a shared empty dict, and the seventh argument.
  PickleMaker pickle = Begin();
  pickle.Raw("}(").Text("a").Put(0).Global("torch._utils", "_rebuild_tensor_v2").Put(1).Raw("(");
  pickle.Storage("CharStorage", "3", 4).Int(0).Ints({4}).Ints({1}).Raw("\x89").OrderedDict().Put(2);
  pickle.Raw("}tR").Text("b").Get(1).Raw("(").Storage("CharStorage", "3", 4).Int(2);
  pickle.Raw("K\x02\x85K\x01\x85\x89").Get(2).Raw("tRu.");
  const std::vector<PickledTensor> tensors = Read(pickle.bytes());
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].shape, (std::vector<int64_t>{2}));
}

TEST(Pickle, ReadsIntegersOfEveryWidth) {
  const auto offset = [](const std::string& integer) {
    PickleMaker pickle = Begin();
    pickle.Raw("}").Text("a").Global("torch._utils", "_rebuild_tensor_v2").Raw("(");
    pickle.Storage("CharStorage", "3", 4).Raw(integer).Raw("))\x89").OrderedDict().Raw("tRs.");
    return pickle.bytes();
  };
  EXPECT_EQ(Read(offset("K\xff"))[0].offset, 255);
  EXPECT_EQ(Read(offset("M\xff\xff"))[0].offset, 65535);
  EXPECT_EQ(Read(offset("J\xff\xff\xff\x7f"))[0].offset, 0x7fffffff);
  EXPECT_EQ(Read(offset(std::string("\x8a\0", 2)))[0].offset, 0);
  EXPECT_EQ(Read(offset(std::string("\x8a\x02\xff\0", 4)))[0].offset, 255);
  EXPECT_EQ(Read(offset("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"))[0].offset, INT64_MAX);
  Refused(offset("\x8a\x01\xff"), {"offset -1"});
  Refused(offset("J\xff\xff\xff\xff"), {"offset -1"});
  Refused(offset("\x8a\x09\1\1\1\1\1\1\1\1\1"), {"integer of 9 bytes"});
}

TEST(Pickle, RefusesGlobalsThatAreNotWeights) {
  const std::vector<std::pair<std::string, std::string>> evil = {
      {"os", "system"},
      {"posix", "system"},
      {"builtins", "eval"},
      {"__builtin__", "exec"},
      {"subprocess", "Popen"},
      {"torch", "load"},
      {"torch.storage", "UntypedStorage"},
      {"torch", "ComplexFloatStorage"},
      {"torch._utils", "_rebuild_tensor_v2\r"},
      {"collections", "OrderedDict.update"},
      {"torch._utils ", "_rebuild_tensor_v2"},
      {"", ""},
      {"numpy.core.multiarray", "_reconstruct"},
      {"torch.nn.modules.linear", "Linear"}};
  for (const auto& [module, name] : evil) {
    SCOPED_TRACE(module + "." + name);
    Refused(Begin().Global(module, name).Raw("(").Text("touch /tmp/x").Raw("tR."),
            {"global", "nothing was executed"});
  }
  Refused(Begin().Raw("cos\nsystem"), {"without an end"});
  Refused(Begin().Raw("c" + std::string(100'000, 'a') + "\n\n"), {"without an end"});
}

TEST(Pickle, RefusesOpcodesThatTorchDoesNotEmit) {
  // INST, OBJ, NEWOBJ, NEWOBJ_EX, STACK_GLOBAL, EXT1, text PERSID, GET, PUT, POP, DUP, FLOAT, INT,
  // BINFLOAT, SHORT_BINSTRING, BINBYTES, FRAME, MEMOIZE, LONG4, BYTEARRAY8, NEXT_BUFFER, POP_MARK.
  for (const char* op : {"ios\nsystem\n",
                         "o",
                         "\x81",
                         "\x92",
                         "\x93",
                         "\x82\x01",
                         "Pstorage\n",
                         "g0\n",
                         "p0\n",
                         "0",
                         "2",
                         "F1.0\n",
                         "I1\n",
                         "G12345678",
                         "U\x01x",
                         "B\1\1\1\1x",
                         "\x95",
                         "\x94",
                         "\x8b",
                         "\x96",
                         "\x97",
                         "1",
                         "Sx\n",
                         "Vx\n",
                         "d",
                         "l",
                         "L1\n",
                         "\xff"}) {
    SCOPED_TRACE(op);
    Refused(Begin().Raw("}(").Raw(op).Raw("."), {"opcode", "nothing was executed"});
  }
  Refused(Begin().Raw("}").Proto(), {"opcode"});
}

TEST(Pickle, RefusesOtherProtocols) {
  Refused("", {"truncated"});
  Refused("}.", {"protocol 2"});
  for (const int version : {0, 1, 3, 4, 5, 255}) {
    Refused(PickleMaker().Proto(version).Raw("}."), {"protocol 2"});
  }
}

TEST(Pickle, RefusesStackErrors) {
  for (const char* ops :
       {".",    "t",    "u",    "e",   "R",   "Q",     "b",    "s",   "a",    "\x85",  "\x86",
        "\x87", "NR",   "))R",  "}b",  "(}u", "}(NNu", "}(Nu", "}Ns", "}NNs", "N(NNu", "Nb",
        "]Nb",  "]N}b", "(NNe", "NNa", "q",   "r",     "(q",   "h",   "j",    "X",     "K",
        "M",    "J",    "\x8a", "c",   "}}.", "(}.",   "}(.",  "N.",  "K\1."}) {
    SCOPED_TRACE(ops);
    Refused(Begin().Raw(ops), {});
  }
  Refused(Begin().Raw("}.}"), {"follow the end"});
  // A mark protects what lies below it.
  Refused(Begin().Raw("}K\1(s."), {"too short"});
  Refused(Begin().Raw("N(Q."), {"empty stack"});
  Refused(Begin().Raw("N(\x85."), {"too short"});
  Refused(Begin().Raw("N(q").Raw(LittleEndian(0, 1)), {"empty stack"});
}

TEST(Pickle, RefusesMemoTricks) {
  Refused(Begin().Raw("}r").Raw(LittleEndian(0xffffffff, 4)).Raw("."), {"memo index 4294967295"});
  Refused(Begin().Raw("}q\1."), {"memo index 1"});
  Refused(Begin().Raw("h").Raw(LittleEndian(0, 1)).Raw("."), {"never written"});
  Refused(Begin().Raw("j\xff\xff\xff\xff."), {"never written"});
}

TEST(Pickle, NestedTuplesAreNeitherWalkedNorCopied) {
  // Each level doubles the one before: walked, this would be 2^200 values.
  PickleMaker pickle = Begin();
  pickle.Raw("N").Put(0);
  for (int i = 0; i < 200; ++i) {
    pickle.Get(static_cast<uint8_t>(i)).Raw("\x86").Put(static_cast<uint8_t>(i + 1));
  }
  Refused(pickle.Raw("."), {"is a tuple"});
  // A dict that holds itself.
  Refused(Begin().Raw("}").Put(0).Text("self").Get(0).Raw("s."), {"'self'", "is a dict"});
  // A million levels deep.
  Refused(Begin().Raw("N" + std::string(1'000'000, '\x85') + "."), {"is a tuple"});
}

TEST(Pickle, RefusesMoreValuesThanTheLimits) {
  CheckpointLimits limits;
  limits.max_pickle_stack = 100;
  limits.max_pickle_values = 50;
  limits.max_tensors = 1;
  const auto refused = [&](const std::string& ops, const char* words) {
    ExpectRefused([&] { Read(Begin().Raw(ops).bytes(), limits); }, kFile, "", {words});
  };
  refused(std::string(101, 'N'), "more than 100 values on");
  refused(std::string(101, '('), "more than 100 marks");
  refused("(" + std::string(60, 'N') + "t", "makes more than 50");
  refused("N" + std::string(60, '\x85'), "makes more than 50");
  std::string dicts = "]";
  for (int i = 0; i < 60; ++i) dicts += "}a";
  refused(dicts, "makes more than 50");
  CheckpointLimits one;
  one.max_tensors = 1;
  const std::string two = MakeStateDict({kView, {.name = "v", .elements = 1, .shape = {}}});
  ExpectRefused([&] { Read(two, one); }, kFile, "", {"more than 1 tensors"});
  // One tensor under many names.
  PickleMaker names = Begin();
  AddTensor(names.Raw("}(").Text("a"), kView).Put(0).Text("b").Get(0).Raw("u.");
  ExpectRefused([&] { Read(names.bytes(), one); }, kFile, "", {"more than 1 tensors"});
  one.max_pickle_bytes = 10;
  ExpectRefused([&] { Read(names.bytes(), one); }, kFile, "", {"at most 10"});
}

TEST(Pickle, RefusesTensorsOfAnotherForm) {
  const auto tensor = [](const std::string& arguments) {
    return Begin()
        .Raw("}")
        .Text("w")
        .Global("torch._utils", "_rebuild_tensor_v2")
        .Raw("(")
        .Raw(arguments + "tRs.");
  };
  const std::string storage = PickleMaker().Storage("FloatStorage", "0", 6).bytes();
  const std::string hooks = PickleMaker().OrderedDict().bytes();
  EXPECT_NO_THROW(Read(tensor(storage + "K\1))\x89" + hooks).bytes()));
  Refused(tensor(storage + "K\1))\x89"), {"5 arguments"});
  Refused(tensor(storage + "K\1))\x89" + hooks + "}N"), {"8 arguments"});
  Refused(tensor("NK\1))\x89" + hooks), {"storage of a tensor is None"});
  Refused(tensor(storage + "N))\x89" + hooks), {"offset of a tensor is None"});
  Refused(tensor(storage + "K\1N)\x89" + hooks), {"shape of a tensor is None"});
  Refused(tensor(storage + "K\1)]\x89" + hooks), {"strides of a tensor is a list"});
  Refused(tensor(storage + "K\1))N" + hooks), {"requires_grad of a tensor is None"});
  Refused(tensor(storage + "K\1))\x89N"), {"hooks of a tensor is None"});
  Refused(tensor(storage + "K\1))\x89}" + PickleMaker().Text("k").bytes() + "Ns"), {"not empty"});
  Refused(tensor(storage + "K\1))\x89}}" + PickleMaker().Text("conj").bytes() + "\x88s"),
          {"not empty"});
  Refused(tensor(storage + "K\1K\1\x85)\x89" + hooks), {"shape [1], strides []"});
  Refused(tensor(storage + "K\1N\x85K\1\x85\x89" + hooks), {"shape of a tensor is None"});
  Refused(MakeStateDict({{.name = "w", .elements = 6, .shape = {-2}, .strides = {1}}}),
          {"negative number -2"});
  Refused(MakeStateDict({{.name = "w", .elements = 6, .shape = {2}, .strides = {-1}}}),
          {"negative number -1"});
  const std::vector<int64_t> ranks(17, 1);
  Refused(MakeStateDict({{.name = "w", .elements = 6, .shape = ranks, .strides = ranks}}),
          {"17 dimensions"});
}

TEST(Pickle, RefusesStoragesOfAnotherForm) {
  for (const char* key : {"", "../0", "a", "0/1", "-1", "123456789012345678901"}) {
    SCOPED_TRACE(key);
    Refused(MakeStateDict({{.name = "w", .key = key, .elements = 1}}), {"the key"});
  }
  Refused(MakeStateDict({{.name = "w", .elements = -1}}), {"storage of -1 elements"});
  const auto id = [](const std::string& ops) { return Begin().Raw("(" + ops + "tQ."); };
  const std::string type = PickleMaker().Global("torch", "FloatStorage").bytes();
  const std::string ordered = PickleMaker().Global("collections", "OrderedDict").bytes();
  const std::string text = PickleMaker().Text("storage").bytes();
  const std::string key = PickleMaker().Text("0").bytes();
  Refused(id(text + type + key + key), {"of 4 items"});
  Refused(id(text + type + key + key + "K\1N"), {"of 6 items"});
  Refused(id(key + type + key + key + "K\1"), {"no storage"});
  Refused(id(text + ordered + key + key + "K\1"), {"no storage"});
  Refused(id(text + key + key + key + "K\1"), {"class of a storage is a text"});
  Refused(id(text + type + "K\1" + key + "K\1"), {"key of a storage is an integer"});
  Refused(id(text + type + key + key + "N"), {"size of a storage is None"});
  Refused(Begin().Raw("NQ."), {"persistent id is None"});
}

TEST(Pickle, RefusesCallsOfAnotherForm) {
  Refused(Begin().Global("torch", "FloatStorage").Raw(")R."), {"called"});
  Refused(Begin().Global("collections", "OrderedDict").Raw("]\x85R."), {"with arguments"});
  Refused(Begin().Global("collections", "OrderedDict").Raw("NR."), {"argument list is None"});
  Refused(Begin().Raw("N)R."), {"callee is None"});
  Refused(Begin().Global("torch._utils", "_rebuild_parameter").Raw("N\x88}\x87R."),
          {"data of a parameter is None"});
  Refused(Begin().Global("torch._utils", "_rebuild_parameter").Raw(")R."), {"0 arguments"});
}

TEST(Pickle, RefusesDictsThatAreNoStateDict) {
  const auto named = [](const std::string& name, const std::string& value) {
    return Begin().Raw("}").Text(name).Raw(value + "s.").bytes();
  };
  ExpectRefused([&] { Read(named("epoch", "K\1")); }, kFile, "epoch",
                {"is an integer", "flat dict"});
  ExpectRefused([&] { Read(named("state_dict", "}")); }, kFile, "state_dict", {"is a dict"});
  Refused(named("", "N"), {"empty name"});
  Refused(named("\xc3\x28", "N"), {"not UTF-8"});
  Refused(named("a\nb", "N"), {"control"});
  Refused(Begin().Raw("}K\1Ns."), {"key of a dict is an integer"});
  ExpectRefused([&] { Read(MakeStateDict({kView, kView})); }, kFile, "w", {"twice"});
}

TEST(Pickle, RefusesEveryTruncationAndSurvivesEveryFlippedByte) {
  const std::string good = MakeStateDict({kView, {.name = "v", .elements = 1, .shape = {}}});
  for (size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    Refused(good.substr(0, size), {});
  }
  for (size_t at = 0; at < good.size(); ++at) {
    for (int flip = 1; flip < 256; ++flip) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      try {
        Read(bad);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kCheckpoint) << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace xcomposer
