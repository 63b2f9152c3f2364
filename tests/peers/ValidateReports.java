import com.pixelmed.validate.DicomSRValidator;

/** PixelMed's template validator over many files: most of its time is the start, where 6 MB of rules are compiled. */
public final class ValidateReports {
    public static void main(String[] files) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        for (String file : files) {
            System.out.println("@@ " + file);
            try {
                System.out.println(validator.validate(file));
            } catch (Exception fault) {
                System.out.println("Error: " + fault);
            }
        }
    }
}
