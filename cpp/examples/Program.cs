// lowdose from C#: the P/Invoke signatures, and a burst of frames denoised.
//
//     mcs Program.cs && mono Program.exe RUNTIME MODEL          (or in a project of .NET 6 and later)
//
// lowdose.dll (liblowdose.so) must lie where the system finds libraries, such as beside the program.
using System;
using System.Runtime.InteropServices;
using System.Text;

static class Lowdose
{
    const string Library = "lowdose";
    const CallingConvention Call = CallingConvention.Cdecl;

    public const int Ok = 0, None = 1, End = 2, Dropped = 3;
    public const int UInt16 = 2, Float32 = 5;

    // Sizes and order as in lowdose.h. Strings are UTF-8: pass bytes that end in 0.
    [StructLayout(LayoutKind.Sequential)]
    public struct EngineOptions
    {
        public UIntPtr StructBytes;
        public IntPtr RuntimePath, Log, LogUser;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct StreamOptions
    {
        public UIntPtr StructBytes;
        public int Height, Width, DtypeIn, DtypeOut, ScanY, ScanX, Threads, TilePx;
        public ulong MaxBytes;
        public uint Given;
        public int WeightSet;
        public float Cutoff, Offset;
        public IntPtr Dark, Gain, BadPixels;
        public int Policy, QueueFrames;
        public double DeadlineMs;
        public IntPtr Progress, ProgressUser;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Frame
    {
        public UIntPtr StructBytes;
        public IntPtr Data;
        public int Height, Width, Dtype, Reserved;
        public IntPtr RowStrideBytes, ChannelStrideBytes;
        public ulong Sequence;
        public long Timestamp;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Result
    {
        public UIntPtr StructBytes;
        public IntPtr Data;
        public int Height, Width, Dtype, Reserved;
        public IntPtr RowStrideBytes, ChannelStrideBytes;
        public ulong Sequence;
        public long Timestamp;
        public ulong Dropped;
        public double AgeMs;
    }

    [DllImport(Library, CallingConvention = Call)]
    public static extern uint lowdose_version();
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_engine_create(ref EngineOptions options, out IntPtr engine, byte[] message, UIntPtr messageBytes);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_engine_destroy(IntPtr engine);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_engine_message(IntPtr engine, byte[] buffer, UIntPtr bufferBytes);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_model_open(IntPtr engine, byte[] path, IntPtr options, out IntPtr model);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_model_close(IntPtr model);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_model_message(IntPtr model, byte[] buffer, UIntPtr bufferBytes);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_stream_open(IntPtr model, ref StreamOptions options, out IntPtr stream);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_stream_close(IntPtr stream);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_stream_message(IntPtr stream, byte[] buffer, UIntPtr bufferBytes);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_stream_push(IntPtr stream, ref Frame frame);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_stream_pop(IntPtr stream, ref Result result, double timeoutMs);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_stream_flush(IntPtr stream);
    [DllImport(Library, CallingConvention = Call)]
    public static extern int lowdose_stream_reset(IntPtr stream);
}

static class Program
{
    const int Height = 64, Width = 80, FrameCount = 5;

    delegate int Message(IntPtr handle, byte[] buffer, UIntPtr bytes);

    static int Check(int status, IntPtr handle, Message message)
    {
        if (status >= 0) return status;
        var buffer = new byte[1024];
        message(handle, buffer, (UIntPtr)buffer.Length);
        throw new InvalidOperationException(Text(buffer));
    }

    static byte[] Utf8(string text) { return Encoding.UTF8.GetBytes(text + "\0"); }

    static string Text(byte[] bytes) { return Encoding.UTF8.GetString(bytes, 0, Array.IndexOf(bytes, (byte)0)); }

    static int Main(string[] arguments)
    {
        if (arguments.Length != 2)
        {
            Console.Error.WriteLine("usage: Program RUNTIME MODEL");
            return 2;
        }
        IntPtr engine = IntPtr.Zero, model = IntPtr.Zero, stream = IntPtr.Zero;
        GCHandle path = GCHandle.Alloc(Utf8(arguments[0]), GCHandleType.Pinned);
        try
        {
            var message = new byte[1024];
            var options = new Lowdose.EngineOptions
            {
                StructBytes = (UIntPtr)Marshal.SizeOf(typeof(Lowdose.EngineOptions)),
                RuntimePath = path.AddrOfPinnedObject(),
            };
            if (Lowdose.lowdose_engine_create(ref options, out engine, message, (UIntPtr)message.Length) < 0)
                throw new InvalidOperationException(Text(message));
            Check(Lowdose.lowdose_model_open(engine, Utf8(arguments[1]), IntPtr.Zero, out model), engine,
                  Lowdose.lowdose_engine_message);
            var prepare = new Lowdose.StreamOptions
            {
                StructBytes = (UIntPtr)Marshal.SizeOf(typeof(Lowdose.StreamOptions)),
                Height = Height,
                Width = Width,
                DtypeIn = Lowdose.UInt16,
                DtypeOut = Lowdose.Float32,
                QueueFrames = FrameCount,
            };
            Check(Lowdose.lowdose_stream_open(model, ref prepare, out stream), model, Lowdose.lowdose_model_message);
            return Run(stream) == FrameCount ? 0 : 1;
        }
        catch (InvalidOperationException error)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
        finally
        {
            path.Free();
            Lowdose.lowdose_stream_close(stream);
            Lowdose.lowdose_model_close(model);
            Lowdose.lowdose_engine_destroy(engine);
        }
    }

    static int Run(IntPtr stream)
    {
        var random = new Random(1);
        var pixels = new ushort[Height * Width];
        var image = new float[Height * Width];
        GCHandle pixelsHandle = GCHandle.Alloc(pixels, GCHandleType.Pinned), imageHandle = GCHandle.Alloc(image, GCHandleType.Pinned);
        int count = 0;
        try
        {
            for (int i = 0; i < FrameCount; ++i)
            {
                for (int k = 0; k < pixels.Length; ++k) pixels[k] = (ushort)(random.Next(8) + k % Width / 8);
                var frame = new Lowdose.Frame
                {
                    StructBytes = (UIntPtr)Marshal.SizeOf(typeof(Lowdose.Frame)),
                    Data = pixelsHandle.AddrOfPinnedObject(),
                    Height = Height,
                    Width = Width,
                    Dtype = Lowdose.UInt16,
                    Sequence = (ulong)i,
                };
                Check(Lowdose.lowdose_stream_push(stream, ref frame), stream, Lowdose.lowdose_stream_message);
            }
            Check(Lowdose.lowdose_stream_flush(stream), stream, Lowdose.lowdose_stream_message);
            var result = new Lowdose.Result
            {
                StructBytes = (UIntPtr)Marshal.SizeOf(typeof(Lowdose.Result)),
                Data = imageHandle.AddrOfPinnedObject(),
                Height = Height,
                Width = Width,
                Dtype = Lowdose.Float32,
            };
            while (Check(Lowdose.lowdose_stream_pop(stream, ref result, -1), stream, Lowdose.lowdose_stream_message) == Lowdose.Ok)
            {
                Console.WriteLine("frame {0}: pixel (0, 0) is {1:F2}, {2:F1} ms after its push", result.Sequence, image[0], result.AgeMs);
                ++count;
            }
        }
        finally
        {
            pixelsHandle.Free();
            imageHandle.Free();
        }
        return count;
    }
}
