// Kafka's command-line tools, many in one JVM: `java -cp … Tools.java` reads a line for each run, of base64 columns with
// tabs between (class, stdin, then the arguments), and prints a line for each: exit status, stdout, stderr, both base64.

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

public class Tools {
    // Some tools catch everything, their own end too, and end again: the first time counts, and nothing that they say after it.
    static class Ended extends RuntimeException {}

    static Integer ended;

    static void end(int status) {
        if (ended == null) {
            ended = status;
            System.out.flush();
            System.setOut(new PrintStream(PrintStream.nullOutputStream()));
            System.setErr(new PrintStream(PrintStream.nullOutputStream()));
        }
        throw new Ended();
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = System.out;
        List<String> lines = new ArrayList<>();
        BufferedReader given = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line; (line = given.readLine()) != null; ) lines.add(line);
        Exit.setExitProcedure((status, message) -> end(status));
        Exit.setHaltProcedure((status, message) -> end(status));
        for (String line : lines) {
            String[] columns = line.split("\t", -1);
            String[] arguments = new String[columns.length - 2];
            for (int at = 0; at < arguments.length; at++) arguments[at] = new String(plain(columns[at + 2]), StandardCharsets.UTF_8);
            ByteArrayOutputStream toolOut = new ByteArrayOutputStream();
            ByteArrayOutputStream toolErr = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(plain(columns[1])));
            System.setOut(new PrintStream(toolOut, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(toolErr, true, StandardCharsets.UTF_8));
            int status = run(new String(plain(columns[0]), StandardCharsets.UTF_8), arguments);
            System.out.flush();
            System.err.flush();
            out.println(status + "\t" + armoured(toolOut) + "\t" + armoured(toolErr));
        }
        out.flush();
        Runtime.getRuntime().halt(0); // without the shutdown hooks that some tools leave behind
    }

    static int run(String tool, String[] arguments) throws Exception {
        ended = null;
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException failed) {
            if (!(failed.getCause() instanceof Ended)) {
                failed.getCause().printStackTrace(System.err);
                return 1;
            }
        }
        return ended == null ? 0 : ended;
    }

    static byte[] plain(String text) {
        return Base64.getDecoder().decode(text);
    }

    static String armoured(ByteArrayOutputStream data) {
        return Base64.getEncoder().encodeToString(data.toByteArray());
    }
}
