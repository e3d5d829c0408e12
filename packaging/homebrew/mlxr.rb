# Homebrew formula of this checkout: brew install --HEAD ./packaging/homebrew/mlxr.rb
class Mlxr < Formula
  desc "Runs language models on your own machine"
  license "MIT"
  head "file://#{File.expand_path("../..", __dir__)}", using: :git, branch: "main"

  depends_on "cmake" => :build
  depends_on "ninja" => :build
  depends_on "pkgconf" => :build
  depends_on "curl"
  depends_on "jansson"
  depends_on "libuv"
  depends_on "llhttp"
  depends_on "mlx"
  depends_on "openssl@3"
  depends_on "pcre2"
  depends_on "sqlite"
  depends_on "utf8proc"
  depends_on "xxhash"

  def install
    system "cmake", "-S", ".", "-B", "build", "-G", "Ninja", "-DMLXR_TESTS=OFF", *std_cmake_args
    system "cmake", "--build", "build"
    system "cmake", "--install", "build"
  end

  service do
    run [opt_bin/"mlxr", "serve"]
    keep_alive successful_exit: false
    process_type :interactive
    log_path var/"log/mlxr.log"
    error_log_path var/"log/mlxr.log"
  end

  test do
    [share/"bash-completion/completions/mlxr", zsh_completion/"_mlxr", fish_completion/"mlxr.fish"].each do |script|
      assert_match "mlxr completion for", script.read
    end
    port = free_port
    ENV["MLXR_MODELS"] = testpath/"models"
    pid = spawn bin/"mlxr", "serve", "--port", port.to_s
    begin
      sleep 2
      assert_match "ready", shell_output("curl -s http://localhost:#{port}/ready")
    ensure
      Process.kill "TERM", pid
      Process.wait pid
    end
  end
end
