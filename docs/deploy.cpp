// Judges photographs with a detector that was exported with --with-preprocessing, using OpenVINO.
//
//   g++ -std=c++17 -O2 deploy.cpp -o deploy -I OPENVINO/include OPENVINO/libs/libopenvino.so.* \
//       -Wl,-rpath,OPENVINO/libs
//   ./deploy mono.xml photo1.png photo2.png
//
// OPENVINO is the folder of the Python package `openvino`, or of an installation; stb_image.h reads
// the files (Debian: libstb-dev). Prints the score, the verdict and the highest value of the anomaly
// map of each photograph. It reads what is upright and has 8 bits.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

// Grey by Pillow's formula; stb_image and OpenCV have others.
static std::vector<uint8_t> grey(const uint8_t *pixels, size_t count) {
  std::vector<uint8_t> found(count);
  for (size_t i = 0; i < count; ++i, pixels += 3)
    found[i] = (19595u * pixels[0] + 38470u * pixels[1] + 7471u * pixels[2] + 32768u) >> 16;
  return found;
}

// Reads (1, height, width, channels); an empty tensor if that is not possible.
static ov::Tensor read(const char *path, size_t channels) {
  int width, height, own;
  if (stbi_is_16_bit(path) || !stbi_info(path, &width, &height, &own)) return {};
  const int loaded = own >= 3 ? 3 : static_cast<int>(channels);
  uint8_t *pixels = stbi_load(path, &width, &height, &own, loaded);
  if (pixels == nullptr) return {};
  const size_t count = static_cast<size_t>(width) * height;
  ov::Tensor image(ov::element::u8, {1, size_t(height), size_t(width), channels});
  if (channels == 1 && loaded == 3) {
    const auto values = grey(pixels, count);
    std::copy(values.begin(), values.end(), image.data<uint8_t>());
  } else {
    std::copy(pixels, pixels + count * channels, image.data<uint8_t>());
  }
  stbi_image_free(pixels);
  return image;
}

int main(int arguments, char **given) {
  if (arguments < 3) return std::fprintf(stderr, "usage: deploy MODEL.xml PHOTOGRAPH...\n"), 2;
  ov::Core core;
  const auto model = core.read_model(given[1]);
  // What the file says of itself, each value as JSON.
  const auto about = [&](const char *name) {
    return model->get_rt_info<std::string>("model_info", name);
  };
  if (about("preprocessing") != "true")
    return std::fprintf(stderr, "export it with --with-preprocessing\n"), 2;
  const float threshold = std::stof(about("threshold"));
  const size_t channels = about("mode") == "\"L\"" ? 1 : 3;
  auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
  auto request = compiled.create_infer_request();
  for (int i = 2; i < arguments; ++i) {
    const auto image = read(given[i], channels);
    if (!image) return std::fprintf(stderr, "cannot read %s\n", given[i]), 2;
    request.set_input_tensor(image);
    request.infer();
    const auto map = request.get_tensor("anomaly_map");
    const auto highest = *std::max_element(map.data<float>(), map.data<float>() + map.get_size());
    const float score = request.get_tensor("score").data<float>()[0];
    const char *verdict = score > threshold ? "anomalous" : "normal";
    std::printf("%s,%.6f,%s,%.6f\n", given[i], score, verdict, highest);
  }
}
