#include "pipeline/cuda_placement.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "ops/cuda_arguments.h"
#include "ops/cuda_resources.h"
#include "support/cuda_device.h"
#include "xcomposer/error.h"

namespace xcomposer {
namespace {

using cuda_testing::OnDevice;

class CudaPlacement : public testing::Test {
 protected:
  void SetUp() override { cuda_testing::RequireDevice(); }
};

TEST_F(CudaPlacement, PiecesOfEveryTypeComeToTheirPlaces) {
  const cuda_testing::CudaRun run;
  for (const at::ScalarType stored : {at::kHalf, at::kBFloat16, at::kFloat}) {
    for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
      at::Tensor host = at::arange(7 * 24, at::kFloat).mul(0.37f).sub(30.0f);
      host[20] = 1e6f;
      host[100] = 1e-20f;
      host = host.to(stored);
      const at::Tensor device = OnDevice(at::full({7, 40}, -1.0f, type));
      const at::Tensor losses = OnDevice(at::zeros({2}, at::kLong));
      for (const int64_t first : {0, 88}) {
        const int64_t count = first == 0 ? 88 : 80;
        const at::Tensor staged = OnDevice(host.narrow(0, first, count).clone());
        const UploadTensor tensor = {.stored = stored,
                                     .count = 7 * 24,
                                     .target = device.data_ptr(),
                                     .type = type,
                                     .columns = 24,
                                     .row_stride = 40,
                                     .losses = losses.data_ptr<int64_t>()};
        ops::Launched(
            "test", cuda::PlaceWeights(PlacementOf({tensor, first, count}, staged.const_data_ptr()),
                                       ops::CurrentCuda().context()));
      }
      ASSERT_EQ(cuda_testing::TakeFault(), "");
      const at::Tensor found = device.cpu();
      EXPECT_TRUE(found.narrow(1, 0, 24).equal(host.to(type).view({7, 24}))) << stored << type;
      EXPECT_TRUE(found.narrow(1, 24, 16).eq(-1).all().item<bool>()) << stored << type;
      const int64_t lost = type == at::kHalf && stored != at::kHalf ? 1 : 0;
      EXPECT_TRUE(losses.cpu().eq(lost).all().item<bool>()) << stored << type;
    }
  }
}

TEST_F(CudaPlacement, OtherTypesAreRefused) {
  EXPECT_THROW(PlacementOf({{.stored = at::kInt}, 0, 0}, nullptr), Error);
  EXPECT_THROW(PlacementOf({{.type = at::kFloat}, 0, 0}, nullptr), Error);
}

TEST(Launched, TellsALostDeviceFromALaunchThatIsNotTaken) {
  const auto kind_of = [](int status) {
    try {
      ops::Launched("op", static_cast<cudaError_t>(status));
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kUsage;
  };
  EXPECT_EQ(kind_of(cudaSuccess), ErrorKind::kUsage) << "nothing was thrown";
  EXPECT_EQ(kind_of(cudaErrorMemoryAllocation), ErrorKind::kCapacity);
  EXPECT_EQ(kind_of(cudaErrorInvalidValue), ErrorKind::kInternal);
  EXPECT_EQ(kind_of(cudaErrorLaunchFailure), ErrorKind::kDevice);
  // What a recording does not allow ends the recording alone.
  for (const int status : {900, 901, 908}) EXPECT_EQ(kind_of(status), ErrorKind::kInternal);
  for (const int status : {899, 909}) EXPECT_EQ(kind_of(status), ErrorKind::kDevice);
}

}  // namespace
}  // namespace xcomposer
